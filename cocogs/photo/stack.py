"""`stack`: a focus bracket becomes one sharp picture, with depth and what it was made from beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image
from torch import Tensor

from cocogs.errors import InputError, listed
from cocogs.io import photos, pictures
from cocogs.io.atomic import write_text
from cocogs.io.depth_file import StoredDepth, read_depth_file
from cocogs.io.json_file import read_json
from cocogs.io.progress import Progress, Say
from cocogs.optics.maps import colored_depth
from cocogs.photo.align import align
from cocogs.photo.bracket import Bracket, open_bracket
from cocogs.photo.exposure_steps import find_gains
from cocogs.photo.fuse_tiles import METHODS, Fused, fuse, lay_over
from cocogs.photo.slices import read_slice, slices_beside
from cocogs.photo.written import STACKED
from cocogs.srgb import to_linear

ORDER = "No focus distances are known: the first slice is taken as the nearest; if it is not, turn the order."
TEXTURED = 0.2  # confidence below which a pixel's depth is a guess
MOSTLY = 0.25  # part of the picture from which on the user is told


@dataclass(frozen=True)
class StackOptions:
    """How to stack.

    Args:
        reference: name of the slice that keeps its place, size and colours; None for the middle one.
        method: "depth" or "pyramid".
        focus: "A:B", metres, in focus in the first and the last slice; None: as EXIF says.
        retouch: a grey picture: where it is 3, the third slice is taken; where it is 0, what `method` says.
        depthmap: whether to write the depth map, too.
    """

    reference: str | None = None
    method: str = "depth"
    focus: str | None = None
    retouch: Path | None = None
    depthmap: bool = False


@dataclass(frozen=True)
class Stacked:
    """A bracket as one picture, in the frame of its reference.

    Args:
        pixels: (H, W, 3) sRGB, as deep as the slices.
        fused: from which slice each pixel is, and how sure that is.
        transforms: (S, 2, 3) from pixels of the reference to those of each slice.
        gains: (S, 3) by which the light of each slice was multiplied.
        warnings: what a user should know.
    """

    bracket: Bracket
    pixels: np.ndarray
    fused: Fused
    transforms: np.ndarray
    gains: np.ndarray
    warnings: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Of `depth`: "metre", or "relative" where no focus distances are known."""
        return "relative" if self.bracket.distances is None else "metre"

    @property
    def light(self) -> Float[Tensor, "3 H W"]:
        """Linear light of the picture; 1 is white."""
        return to_linear(torch.from_numpy(photos.to_float(self.pixels)).movedim(-1, 0)).contiguous()

    @property
    def depth(self) -> Float[Tensor, "H W"]:
        """Along the optical axis, > 0, by where between two slices each pixel is sharpest, evenly in 1/z.

        In metres where focus distances are known. Else relative: 1 for the first slice, growing to the
        number of slices for the last, as if the first had been focused nearest, and evenly in 1/z.
        """
        count = len(self.bracket.paths)
        known = self.bracket.distances or [1 / (1 - k / count) for k in range(count)]
        vergences = np.array([1 / distance for distance in known], np.float32)
        vergence = np.interp(self.fused.index.numpy(), np.arange(count), vergences)
        return 1 / torch.from_numpy(vergence.astype(np.float32))

    @property
    def confidence(self) -> Float[Tensor, "H W"]:
        """In [0, 1], of `depth`."""
        return self.fused.confidence


def stack(given: Sequence[Path], out: Path, options: StackOptions, say: Say) -> list[Path]:
    """Stack a bracket, and write the picture, NAME.stack.json and what was asked for beside it.

    Args:
        given: photos, or folders of photos.
        out: .png, .tif or .jpg.

    Returns:
        The files written.

    Raises:
        InputError: see `open_bracket` and `stack_bracket`; `out` has another ending.
    """
    pictures.check_picture_name(out)
    bracket = open_bracket(given, options.reference, options.focus, out)
    STACKED.check(out, (*bracket.paths, *([] if options.retouch is None else [options.retouch])))
    stacked = stack_bracket(bracket, out, options, say)
    written = [out, *([] if not options.depthmap else _write_depth(stacked, out))]
    pictures.write_photo(stacked.pixels, out, _exif(bracket))
    facts = STACKED.facts(out)
    write_text(facts, json.dumps(_facts(stacked, out, options), indent=2, allow_nan=False) + "\n")
    for warning in stacked.warnings:
        say(f"Note: {warning}.")
    if options.depthmap and stacked.unit != "metre":
        say(f"Note: {ORDER}")
    return [*written, facts]


def stack_bracket(bracket: Bracket, scratch: Path, options: StackOptions, say: Say) -> Stacked:
    """Align, even out and fuse a bracket. Its pixels lie in a temporary file beside `scratch` meanwhile.

    Raises:
        InputError: OpenCV is missing; the slices show different things; a file is damaged; the disk is full;
            there is no such method; the retouching mask does not fit.
    """
    if options.method not in METHODS:
        raise InputError(f"`method` must be {' or '.join(METHODS)}, not {options.method!r}.")
    labels = None if options.retouch is None else _read_retouch(options.retouch, bracket)
    with slices_beside(scratch, bracket) as slices:
        with Progress("Reading slices", len(slices), say, patience=2) as progress:
            for index, path in enumerate(bracket.paths):
                slices.write(index, read_slice(path, bracket))
                progress.add(1)
        transforms = align(slices, bracket.paths, bracket.reference, say)
        gains = find_gains(slices, transforms, bracket.reference, say)
        unknown = [path.name for path, gain in zip(bracket.paths, gains, strict=True) if np.isnan(gain).any()]
        gains = np.nan_to_num(gains, nan=1.0)
        noise = lay_over(slices, transforms, gains, say)
        pixels, fused = fuse(slices, transforms, options.method, noise, labels, say)
    warnings = tuple(_warnings(bracket, fused, unknown))
    return Stacked(bracket, pixels, fused, transforms, gains, warnings)


def _read_retouch(path: Path, bracket: Bracket) -> np.ndarray:
    """(H, W) numbers of slices, from 1; 0 where the method decides."""
    labels = photos.read_labels(path)
    if labels.shape != (bracket.height, bracket.width):
        raise InputError(
            f"{path} is {labels.shape[1]}x{labels.shape[0]} px and the slices are "
            f"{bracket.width}x{bracket.height}: draw the mask over the stacked picture."
        )
    if labels.max() > len(bracket.paths):
        raise InputError(
            f"{path} asks for slice {labels.max()}, and there are {len(bracket.paths)}: its grey values must "
            "be numbers of slices, or 0, drawn with a hard brush."
        )
    return labels


def _warnings(bracket: Bracket, fused: Fused, unknown: Sequence[str]) -> list[str]:
    notes = []
    if unknown:
        notes.append(
            f"the exposure of {listed(unknown)} stays as it is: too little is neither black nor white there"
        )
    flat = float((fused.confidence < TEXTURED).float().mean())
    if flat > MOSTLY:
        notes.append(
            f"{flat:.0%} of the picture has no texture that tells what is sharp: depth there is a guess"
        )
    if fused.lost > MOSTLY:
        notes.append(f"{fused.lost:.0%} of the picture lies outside one slice or more")
    if bracket.distances is None and bracket.distances_from != "EXIF tells no focus distances":
        notes.append(f"{bracket.distances_from}, so depth is no length")
    return notes


def _exif(bracket: Bracket) -> bytes:
    """The reference's EXIF, without the f-number: the picture is sharp at all depths."""
    block = photos.exif_for_copy(bracket.paths[bracket.reference])
    exif = Image.Exif()
    exif.load(block)
    exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.FNumber, None)
    return exif.tobytes()


def _write_depth(stacked: Stacked, out: Path) -> list[Path]:
    """NAME_depth.png (see `_depth_facts`), NAME_depth_color.png and NAME_confidence.png."""
    low, high = _range(stacked)
    values = stacked.fused.index / (len(stacked.bracket.paths) - 1)
    if stacked.unit == "metre":
        values = (1 / stacked.depth - low) / (high - low)
    names = [STACKED.companion(out, word) for word in STACKED.beside]
    pictures.write_png(values, names[0], bits=16)
    pictures.write_png(colored_depth(stacked.depth), names[1])
    pictures.write_png(stacked.confidence, names[2])
    return names


def _range(stacked: Stacked) -> tuple[float, float]:
    """Least and greatest 1/z of the bracket."""
    ends = [1 / distance for distance in stacked.bracket.distances or (1.0, 2.0)]
    return min(ends), max(ends)


def _depth_facts(stacked: Stacked, out: Path) -> dict:
    """What the values of the depth map mean."""
    facts: dict = {"file": f"{out.stem}_depth.png", "confidence": f"{out.stem}_confidence.png"}
    if stacked.unit == "metre":
        low, high = _range(stacked)
        return facts | {"kind": "inverse", "unit": "1/metre", "at_0": low, "at_65535": high}
    return facts | {"kind": "slice", "unit": "slice", "at_0": 1, "at_65535": len(stacked.bracket.paths)}


def read_stacked_depth(picture: Path, file: Path) -> StoredDepth | None:
    """The depth map that `stack` wrote beside a picture; None where this file is none.

    Raises:
        InputError: the map or NAME.stack.json is damaged.
    """
    facts = STACKED.facts(picture)
    if not facts.is_file():
        return None
    entry = read_json(facts, "stack the bracket again").get("depth")
    if not isinstance(entry, dict) or entry.get("file") != file.name:
        return None
    try:
        start, end = float(entry["at_0"]), float(entry["at_65535"])
        values = start + read_depth_file(file, "inverse").values * ((end - start) / 65535)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{facts} is damaged: stack the bracket again.") from error
    if entry.get("kind") == "inverse":
        return StoredDepth(values, "inverse", True, str(file))
    return StoredDepth(1 - (values - 1) / end, "inverse", False, str(file), (ORDER,))  # as `Stacked.depth`


def _facts(stacked: Stacked, out: Path, options: StackOptions) -> dict:
    bracket, fused = stacked.bracket, stacked.fused
    distances = bracket.distances or [None] * len(bracket.paths)
    return {
        "picture": out.name,
        "method": options.method,
        "reference": bracket.paths[bracket.reference].name,
        "slices": [
            {
                "number": index + 1,
                "file": str(path),
                "focus_distance_m": _finite(distances[index]),
                "to_slice": [[round(float(value), 6) for value in row] for row in stacked.transforms[index]],
                "gain": [round(float(value), 4) for value in stacked.gains[index]],
                "share": round(fused.shares[index], 4),
            }
            for index, path in enumerate(bracket.paths)
        ],
        "focus_distances_from": bracket.distances_from,
        "depth": _depth_facts(stacked, out) if options.depthmap else None,
        "depth_confident": round(float((fused.confidence >= TEXTURED).float().mean()), 4),
        "outside_a_slice": round(fused.lost, 4),
        "retouched": None if options.retouch is None else str(options.retouch),
        "retouched_share": round(fused.retouched, 4),
        "generative": False,
        "warnings": list(stacked.warnings),
    }


def _finite(distance: float | None) -> float | str | None:
    """JSON has no infinity."""
    return "inf" if distance is not None and distance > 1e9 else distance
