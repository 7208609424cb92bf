"""The depth of one photo, from whatever the user has: inside the photo, beside it, a file, a trained run, a
focus bracket, a network by path."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.depth_file import DepthKind, StoredDepth, check_kind, read_depth_file
from cocogs.io.depth_inside import read_depth_inside
from cocogs.io.photos import read_header, read_photo
from cocogs.io.progress import Say
from cocogs.photo.bracket import open_bracket
from cocogs.photo.depth_fit import fit_to_photo
from cocogs.photo.depth_network import estimate_depth
from cocogs.photo.depth_run import LearnedOfPhoto, depth_of_run
from cocogs.photo.stack import ORDER, StackOptions, read_stacked_depth, stack_bracket

METRES, SCENE_UNITS = "m", "scene units"
FARTHEST = 0.1
"""Of the range of a disparity with unknown offset: the nearness of its farthest point. The nearest point is
then 11 times as near, as in a portrait at 1.5 m with trees at 16 m behind it."""
_BESIDE = ("_depth", ".depth")
_WAYS = (
    "a portrait of an iPhone (HEIC) or an Android phone (JPEG) with its depth inside, a file NAME_depth.png, "
    ".exr or .npy beside the photo, or `depth`: such a file, run:RUN of a trained run with this photo, "
    "bracket:DIR of a focus bracket, or a folder with the weights of Depth Anything V2"
)


@dataclass(frozen=True)
class PictureDepth:
    """How far away each pixel of a photo is.

    Args:
        depth: (H, W) float32 along the optical axis, above 0; infinity is allowed.
        unit: `METRES` or `SCENE_UNITS`; None: relative, so that the median of 1 / depth is 1.
        source: where the depth comes from, in words for the user and the JSON.
        estimated: a network made it.
        warnings: what was assumed.
        learned: of depth from a run: the lens of the photo.
        metres_per_unit: how long the unit is; None: unknown.
    """

    depth: Float[Tensor, "H W"]
    unit: str | None
    source: str
    estimated: bool = False
    warnings: tuple[str, ...] = ()
    learned: LearnedOfPhoto | None = None
    metres_per_unit: float | None = None


CLICK, CLICK_SIZE = 2, 1000
"""px around a point that say how far away it is, in a picture of so many px."""


def depth_around(depth: Float[Tensor, "H W"], x: float, y: float) -> float:
    """The median depth around a point of a picture.

    Args:
        x, y: px from the left and upper border; the first pixel's centre is at 0.5.

    Raises:
        InputError: the point lies outside the picture.
    """
    height, width = depth.shape
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"The point {x:g},{y:g} lies outside the photo, which has {width}x{height} px.")
    reach = max(1, round(CLICK * max(width, height) / CLICK_SIZE))
    column, row = min(int(x), width - 1), min(int(y), height - 1)
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    return float(depth[rows, columns].median())


def find_depth(photo: Path, depth: str | None, kind: str | None, say: Say = print) -> PictureDepth:
    """The depth of a photo, of its upright size.

    Args:
        depth: a file, run:RUN, bracket:DIR, or a folder with the weights of a network. None: inside the
            photo, else in a file beside it (NAME_depth.png, NAME.depth.exr, ...).
        kind: what the numbers of a depth file are: depth, inverse, or disparity. None: found out, and told in
            `warnings`.

    Raises:
        InputError: there is no depth, it cannot be read, or it does not belong to the photo.
    """
    wanted = check_kind(kind)
    if depth is None:
        return _own_depth(photo, wanted)
    word, _, rest = depth.partition(":")
    if word in ("run", "bracket") and rest:
        _refuse(wanted, depth)
        return _of_run(photo, Path(rest)) if word == "run" else _of_bracket(photo, Path(rest), say)
    if Path(depth).is_dir():
        _refuse(wanted, depth)
        return _of_network(photo, Path(depth), say)
    return _fitted(photo, read_depth_file(Path(depth), wanted))


def _refuse(kind: DepthKind | None, depth: str) -> None:
    if kind is not None:
        raise InputError(f"`depth_kind` is for depth files: leave it out, {depth} tells what its depth is.")


def _own_depth(photo: Path, kind: DepthKind | None) -> PictureDepth:
    """Inside the photo, or beside it."""
    if (inside := read_depth_inside(photo)) is not None:
        _refuse(kind, str(photo))
        return _fitted(photo, inside)
    for file in beside(photo):
        if file.is_file():
            return _fitted(photo, read_stacked_depth(photo, file) or read_depth_file(file, kind))
    raise InputError(f"{photo} has no depth: there must be {_WAYS}.")


def beside(photo: Path) -> list[Path]:
    """Where the depth map of a photo may lie."""
    stems = [f"{name}{word}" for name in (photo.stem, photo.name) for word in _BESIDE]
    return [photo.with_name(stem + suffix) for stem in stems for suffix in (".png", ".exr", ".npy")]


def _fitted(photo: Path, stored: StoredDepth, estimated: bool = False) -> PictureDepth:
    """Depth of the photo's size, from values as stored."""
    header = read_header(photo)
    nearness, notes = _nearness(stored), list(stored.warnings)
    fitted, more = fit_to_photo(
        nearness, read_photo(photo), header.orientation, stored.source, str(photo), any_shape=estimated
    )
    unit = METRES if stored.metric else None
    if unit is None:
        fitted /= _median(fitted, stored.source)
    metres = 1.0 if stored.metric else None
    notes += more
    return PictureDepth(1 / fitted, unit, stored.source, estimated, tuple(notes), metres_per_unit=metres)


def _nearness(stored: StoredDepth) -> Float[np.ndarray, "H W"]:
    """One over the depth, 0 or more, NaN where unknown.

    Disparity has an unknown factor and an unknown offset. The offset is chosen so that the nearness of the
    farthest point is `FARTHEST` of the range: a finite distance. `_fitted` chooses the factor by the median.

    Raises:
        InputError: nothing is known anywhere, or everything is at the same distance.
    """
    values = stored.values.astype(np.float64)
    there = values[~np.isnan(values)]
    if there.size == 0:
        raise InputError(f"{stored.source} knows no depth: every value is negative, 0 or not a number.")
    least, most = float(there.min()), float(there.max())
    if least == most:
        raise InputError(
            f"{stored.source} has the same depth everywhere ({least:g}), which tells nothing: give the "
            "photo's own."
        )
    if stored.kind == "depth":
        with np.errstate(divide="ignore", over="ignore"):
            return (1 / values).clip(max=1e30).astype(np.float32)
    if stored.kind == "inverse":
        return values.clip(max=1e30).astype(np.float32)
    return ((values - least) / (most - least) + FARTHEST).astype(np.float32)


def _median(nearness: Float[Tensor, "H W"], source: str) -> float:
    """Of nearness that is not 0, where that is needed for a factor."""
    middle = float(nearness.median())
    return middle if middle > 0 else float(nearness[nearness > 0].median())


def _of_run(photo: Path, run: Path) -> PictureDepth:
    stored, learned, metres = depth_of_run(photo, run)
    nearness = _nearness(stored)
    fitted, notes = fit_to_photo(nearness, read_photo(photo), 1, stored.source, str(photo))
    warnings = (*stored.warnings, *notes)
    return PictureDepth(1 / fitted, SCENE_UNITS, stored.source, False, warnings, learned, metres)


def _of_network(photo: Path, weights: Path, say: Say) -> PictureDepth:
    return _fitted(photo, estimate_depth(read_photo(photo), weights, say), estimated=True)


def _of_bracket(photo: Path, folder: Path, say: Say) -> PictureDepth:
    """Of a slice of the bracket, or of a picture that lies over its middle slice, as the stacked one does."""
    own = folder / photo.name
    is_slice = own.exists() and photo.exists() and own.samefile(photo)
    bracket = open_bracket([folder], reference=photo.name if is_slice else None)
    with TemporaryDirectory() as scratch:
        stacked = stack_bracket(bracket, Path(scratch) / "slices", StackOptions(), say)
    source = f"the bracket {folder}"
    notes = tuple(f"{warning[:1].upper()}{warning[1:]}." for warning in stacked.warnings)
    if bracket.distances is None:
        notes += (ORDER,)
    if is_slice:
        notes += (
            f"{photo} is sharp only where it was focused: refocus the stacked picture instead, or tell by "
            "`source` how it was taken.",
        )
    metric = bracket.distances is not None
    return _fitted(photo, StoredDepth(stacked.depth.numpy(), "depth", metric, source, notes))
