"""Depth maps as files: PNG and TIFF of 8 or 16 bit or floats, .npy, OpenEXR. What the numbers mean is said by
the user, or found out by the rules of `_found_kind`, and then told."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io import decoding
from cocogs.io.source import is_size

DepthKind = Literal["depth", "inverse", "disparity"]
"""depth: distance along the optical axis. inverse: one over it. disparity: larger is nearer, with a factor
and an offset that nobody knows."""
SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".exr")
BEYOND = 1e9  # depths from here on are infinity: renderers write 1e10 where nothing is
FULL = 0.98  # of 65535: a 16-bit map that reaches so far was stretched to all its values
_COLORED = 0.02  # of the range; grey pictures saved as JPEG and back differ by less
_NAMES = (("disparity", r"disp"), ("inverse", r"inv"), ("depth", r"depth[._-]?(?:mm|m|metric)"))


@dataclass(frozen=True)
class StoredDepth:
    """A depth map as stored.

    Args:
        values: (H, W) float32; NaN where the map knows nothing.
        kind: what the values are.
        metric: they are in metres, or in one over metres.
        source: where they come from, for the user.
        warnings: sentences about what was assumed.
    """

    values: Float[np.ndarray, "H W"]
    kind: DepthKind
    metric: bool
    source: str
    warnings: tuple[str, ...] = ()


def check_kind(kind: str | None) -> DepthKind | None:
    """Raises InputError for a kind that is none."""
    for known in get_args(DepthKind):
        if kind == known:
            return known
    if kind is None:
        return None
    raise InputError(f"`depth_kind` must be depth, inverse or disparity, not {kind}.")


def read_depth_file(path: Path, kind: DepthKind | None = None) -> StoredDepth:
    """A depth map from a file.

    Depth in whole numbers of 16 bit counts as millimetres, in floats as metres. A depth of 0 is unknown; a
    disparity of 0 may be the farthest.

    Args:
        kind: what the values are; None: found out by the file's name, its type and its range.

    Raises:
        InputError: the file is none of `SUFFIXES`, cannot be read, or shows no depth.
    """
    values, named = _read(path)
    bits = 8 * values.dtype.itemsize if values.dtype.kind == "u" else 32
    stretched = bits == 16 and bool(values.max() >= FULL * np.iinfo(np.uint16).max)
    warnings = []
    found = kind or named or _found_kind(path, bits, stretched)
    if kind is None:
        warnings.append(f"{path} is read as {found}, {_reason(path, named, bits, stretched)}.")
    if bits == 8:
        warnings.append(f"{path} has 8 bits, only 256 different depths: blur may show steps.")
    metric = found != "disparity" and (bits == 32 or (bits == 16 and not stretched and found == "depth"))
    numbers = values.astype(np.float32)
    if bits == 16 and metric:
        numbers /= 1000
        warnings.append(f"The whole numbers of {path} are taken as millimetres.")
    elif metric:
        warnings.append(f"The numbers of {path} are taken as {'metres' if found == 'depth' else '1/metre'}.")
    return StoredDepth(known(numbers, found), found, metric, str(path), tuple(warnings))


def known(values: Float[np.ndarray, "H W"], kind: DepthKind) -> Float[np.ndarray, "H W"]:
    """The values with NaN wherever they cannot be true: negative ones, depths of 0, infinite nearness."""
    if kind == "depth":
        values = np.where(values >= BEYOND, np.float32(np.inf), values)
        return np.where(values > 0, values, np.float32(np.nan))
    fits = np.isfinite(values) & ((values >= 0) | (kind == "disparity"))
    return np.where(fits, values, np.float32(np.nan))


def _found_kind(path: Path, bits: int, stretched: bool) -> DepthKind:
    """By the file's name; else floats are depth, 16-bit numbers too unless they take up the whole range, and
    what takes it up is disparity, as networks write it."""
    return _by_name(path) or ("disparity" if bits == 8 or stretched else "depth")


def _by_name(path: Path) -> DepthKind | None:
    for kind, pattern in _NAMES:
        if re.search(pattern, path.stem, re.IGNORECASE):
            return check_kind(kind)
    return None


def _reason(path: Path, named: str | None, bits: int, stretched: bool) -> str:
    """Why a kind was found, and what to do if it is wrong."""
    if named or _by_name(path):
        why = "as its channel is called" if named else "as its name says"
    elif bits == 8 or stretched:
        why = "near is bright, because its values take up the whole range" if stretched else "near is bright"
    else:
        why = "because such files mostly are"
    return f"{why}; if that is wrong, give `depth_kind`"


def _read(path: Path) -> tuple[np.ndarray, DepthKind | None]:
    """(H, W) uint8, uint16 or float32, and the kind that the file tells."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is no depth map: give one that ends in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the depth map of the photo.")
    if suffix == ".npy":
        return _read_npy(path), None
    if suffix == ".exr":
        return _read_exr(path)
    with decoding.opened(path) as image:
        if image.mode in ("F", "I"):
            return np.asarray(image).astype(np.float32), None
        pixels = decoding.decode(path, image, to_srgb=False)
    spread = int((pixels.max(2) - pixels.min(2)).max())
    if spread > _COLORED * np.iinfo(pixels.dtype).max:
        raise InputError(f"{path} is coloured, and a depth map is grey: give the map without false colours.")
    return pixels[..., 0], None


def _read_npy(path: Path) -> np.ndarray:
    try:
        # Mapped: a header that promises more than the file holds is refused before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python: there are many ways to fail
        raise InputError(
            f"{path} cannot be read as an array ({reason_of(error)}): write it again."
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays: save the depth alone, with numpy.save.")
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else array[..., 0] if array.shape[2] == 1 else array
    if array.ndim != 2 or not is_size(array.shape[1], array.shape[0]) or array.dtype.kind not in "fiu":
        shape = "x".join(map(str, array.shape)) or "no size"
        raise InputError(f"{path} holds an array of {shape} {array.dtype}, not one depth per pixel.")
    keeps = array.dtype in (np.uint8, np.uint16)
    if array.dtype.kind in "iu" and not keeps:
        raise InputError(
            f"{path} holds whole numbers of the type {array.dtype}, whose unit nobody knows: save "
            "millimetres as uint16, or metres as float32."
        )
    with np.errstate(over="ignore"):  # beyond float32: infinity
        return np.asarray(array) if keeps else np.asarray(array, dtype=np.float32)


def _read_exr(path: Path) -> tuple[np.ndarray, DepthKind | None]:
    exr = optional_package(
        "OpenEXR", f"Reading {path.name} needs the package OpenEXR: run `pip install 'cocogs[exr]'`."
    )
    try:
        with exr.File(str(path), header_only=True) as head:
            low, high = head.header()["dataWindow"]
            if not is_size(*(int(side) + 1 for side in high - low)):
                raise ValueError("an impossible size")
        with exr.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the package raises its own types
        raise InputError(f"{path} cannot be read as OpenEXR ({reason_of(error)}): write it again.") from error
    wanted = ("z", "depth", "inverse", "disparity", "v", "y", "r")
    by_word = {name.split(".")[-1].lower(): name for name in reversed(channels)}
    for word in wanted:
        if word in by_word and channels[by_word[word]].ndim == 2:
            kind = check_kind(word) if word in get_args(DepthKind) else None
            values = np.asarray(channels[by_word[word]], dtype=np.float32)
            return values, "depth" if word == "z" else kind
    raise InputError(f"{path} has no channel of depth, but {', '.join(channels)}: name it Z or depth.")
