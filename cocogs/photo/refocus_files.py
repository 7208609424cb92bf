"""`cocogs refocus`: from a photo file to refocused pictures or films, and what is to be known of them."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.device import choose_device
from cocogs.errors import InputError, check_number
from cocogs.io import photos
from cocogs.io.atomic import write_text
from cocogs.io.lock import alone_in
from cocogs.io.pictures import check_speed, check_writer, write_film, write_picture, write_png
from cocogs.io.progress import Progress, Say
from cocogs.optics.lens import Lens, focus_between
from cocogs.optics.light import srgb_curve
from cocogs.photo.deblur import load_deblurrer
from cocogs.photo.depth import PictureDepth, find_depth
from cocogs.photo.lenses import PhotoCamera, find_camera, focus_distance
from cocogs.photo.refocus import Deblur, DepthPhoto, Refocused
from cocogs.photo.slices import light_of_codes
from cocogs.render.options import (
    BRIGHTEST,
    FILMS,
    FPS,
    FRAMES,
    MOST_BLADES,
    MOST_FRAMES,
    parse_factor,
    parse_range,
    parse_size,
)

STILLS = {"png": 0, "tif": 0, "tiff": 0, "exr": 0, "jpg": 8, "jpeg": 8}
"""Endings of single pictures, and how many bits they have at most; 0: no matter."""
FACTS = ".refocus.json"  # of a picture's name, instead of its ending
TICKS = 100  # of a progress bar
TRUSTED = 0.5  # confidence from which the network's picture is taken
AROUND = 64  # px


@dataclass(frozen=True)
class RefocusOptions:
    """What to make of a photo; None = not given. cocogs/cli/refocus.py describes every field for users."""

    photo: Path
    out: Path
    focus_at: str | None = None
    focus: str | None = None
    focus_pull: str | None = None
    f_number: float | None = None
    aperture: str | None = None
    sweep: str | None = None
    blades: int = 0
    blade_rotation: float = 0.0
    highlights: float = 1.0
    depth: str | None = None
    depth_kind: str | None = None
    source: str | None = None
    keep_blur: bool = False
    size: str | None = None
    frames: int | None = None
    fps: float | None = None

    @property
    def is_film(self) -> bool:
        return self.focus_pull is not None or self.sweep is not None

    def check_numbers(self) -> None:
        """Raises InputError for a number out of its range."""
        check_number("f_number", self.f_number, above=0, example="2.8")
        check_number("blades", self.blades, least=0, most=MOST_BLADES, whole=True)
        check_number("blade_rotation", self.blade_rotation)
        check_number("highlights", self.highlights, least=1, most=BRIGHTEST)
        check_number("frames", self.frames, least=2, most=MOST_FRAMES, whole=True)
        check_number("fps", self.fps, above=0, most=1000, example="24")


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo that is ready to be refocused, and where its numbers come from.

    Args:
        bits: 8 or 16, of the file.
    """

    path: Path
    picture: DepthPhoto
    depth: PictureDepth
    camera: PhotoCamera
    bits: int


def open_photo(
    path: Path,
    depth: str | None = None,
    depth_kind: str | None = None,
    source: str | None = None,
    size: str | None = None,
    say: Say = print,
) -> OpenedPhoto:
    """A photo with its depth and the lens it was taken with.

    Args:
        depth, depth_kind: see `find_depth`.
        source: see `find_camera`.
        size: width in px to shrink it to.

    Raises:
        InputError: the photo or its depth cannot be read, or they do not fit each other.
    """
    header = photos.read_header(path)
    found = find_depth(path, depth, depth_kind, say)
    camera = find_camera(header.lens, found, source)
    device = choose_device("auto", say)
    light = light_of(photos.read_photo(path)).to(device)
    picture = DepthPhoto(light, found.depth.to(device), camera.focal_px, camera.taken)
    if size is not None:
        picture = _shrunk(picture, size)
    for note in (*found.warnings, *camera.notes):
        say(note)
    return OpenedPhoto(path, picture, found, camera, 8 * header.bytes_per_value)


def _shrunk(picture: DepthPhoto, size: str) -> DepthPhoto:
    height, width = picture.depth.shape
    wanted, other = parse_size(size)
    if other is not None or wanted > width:
        raise InputError(f"`size` must be a width up to that of the photo, {width} px, not {size}.")
    return picture.resized(wanted, max(1, round(height * wanted / width)))


def light_of(pixels: np.ndarray) -> Float[Tensor, "3 H W"]:
    """Linear light of a photo's pixels, (H, W, 3) of 8 or 16 bit."""
    return torch.from_numpy(light_of_codes(pixels.dtype)[np.moveaxis(pixels, -1, 0)])


def refocus_photo(options: RefocusOptions, say: Say = print) -> list[Path]:
    """Make the picture or the film that `options` ask for.

    Returns:
        The picture or film; of a photo that was to lose more blur than can be taken away, also the mask.

    Raises:
        InputError: options that do not fit each other or the photo, or a file that cannot be read or written.
    """
    options.check_numbers()
    kind = _checked_kind(options)
    photo = open_photo(options.photo, options.depth, options.depth_kind, options.source, options.size, say)
    lenses = list(_lenses(options, photo))
    if kind in FILMS:
        return [_film(options, photo, lenses, kind, say)]
    with Progress("Refocusing", TICKS, say, patience=2) as progress:
        refocused = photo.picture.refocused(lenses[0], _deblur(options), _ticking(progress))
    return _write(options, photo, lenses[0], refocused, say)


def _deblur(options: RefocusOptions) -> Deblur | None:
    """What takes blur away, unless the user wants none of it."""
    if options.keep_blur:
        return None

    def by_network(light: Tensor, coc: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        done = load_deblurrer()(light, torch.where(_around(wanted), coc, 0))
        return done.light, done.confidence >= TRUSTED

    return by_network


def _around(places: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Places and at least `AROUND` px around them: the rest of a photo need not pass through the network."""
    blocks = F.max_pool2d(places[None, None].float(), AROUND, ceil_mode=True)
    wide = F.max_pool2d(blocks, 3, stride=1, padding=1)
    height, width = places.shape
    return F.interpolate(wide, scale_factor=AROUND, mode="nearest")[0, 0, :height, :width] > 0


def _checked_kind(options: RefocusOptions) -> str:
    """The ending of `out`."""
    kind = options.out.suffix.lower().lstrip(".")
    kinds = FILMS if options.is_film else tuple(STILLS)
    if kind not in kinds:
        what = "a film: let `out`" if options.is_film else "one picture: let `out`"
        raise InputError(f"This makes {what} end in .{' or .'.join(kinds)}, not {options.out.name}.")
    if options.out.is_dir():
        raise InputError(f"{options.out} is a folder: let `out` be the name of a file.")
    if options.out.exists() and options.photo.exists() and options.out.samefile(options.photo):
        raise InputError(f"{options.out} would overwrite the photo: give another `out`.")
    if not options.is_film and (options.frames or options.fps):
        raise InputError("`frames` and `fps` belong to films: give `focus_pull` or `sweep` with them.")
    if options.blade_rotation and not options.blades:
        raise InputError("`blade_rotation` turns the blades: give `blades`, such as 6, with it.")
    check_writer(kind)
    if kind in FILMS and options.fps is not None:
        check_speed(kind, options.fps)
    return kind


def _lenses(options: RefocusOptions, photo: OpenedPhoto) -> Iterator[Lens]:
    """The lens of the picture, or of every frame."""
    count = (options.frames or FRAMES) if options.is_film else 1
    looks = (options.blades, options.blade_rotation, options.highlights)
    distances, diameters = _distances(options, photo.depth), _diameters(options, photo.camera)
    for index in range(count):
        t = index / max(count - 1, 1)
        yield Lens(focus_between(*distances, t), (1 - t) * diameters[0] + t * diameters[1], *looks)


def _distances(options: RefocusOptions, depth: PictureDepth) -> tuple[float, float]:
    """The focus distance at the start and at the end."""
    given = [name for name in ("focus_at", "focus", "focus_pull") if getattr(options, name) is not None]
    if len(given) != 1:
        raise InputError("Say what is to be in focus: give one of `focus_at`, `focus` and `focus_pull`.")
    name, text = given[0], str(getattr(options, given[0]))
    if name == "focus_pull":
        ends = text.split(":")
        if len(ends) != 2:
            raise InputError(
                "`focus_pull` must be two distances, such as 0.5m:2m, or points, such as "
                f"20%,80%:60%,40%, not {text}."
            )
        return focus_distance(name, ends[0], depth), focus_distance(name, ends[1], depth)
    if name == "focus_at" and "," not in text:
        raise InputError(f"`focus_at` must be X,Y in px, or in per cent such as 50%,40%, not {text}.")
    distance = focus_distance(name, text, depth)
    return distance, distance


def _diameters(options: RefocusOptions, camera: PhotoCamera) -> tuple[float, float]:
    """The aperture at the start and at the end."""
    if options.sweep is None:
        factor = None if options.aperture is None else parse_factor("aperture", options.aperture)
        diameter = camera.diameter(options.f_number, factor)
        return diameter, diameter
    if options.f_number is not None or options.aperture is not None:
        raise InputError("`sweep`, `f_number` and `aperture` exclude each other: give one.")
    first, last = parse_range("sweep", options.sweep.lower().replace("f/", ""))
    if not (0 < first < math.inf and 0 < last < math.inf):
        raise InputError(f"`sweep` must be two f-numbers above 0, such as 16:1.8, not {options.sweep}.")
    return camera.diameter(first, None), camera.diameter(last, None)


def _ticking(progress: Progress):
    """A callback that moves a bar of `TICKS` to a share of it."""
    shown = 0

    def tick(share: float) -> None:
        nonlocal shown
        steps = int(share * TICKS) - shown
        progress.add(steps)
        shown += steps

    return tick


def _film(options: RefocusOptions, photo: OpenedPhoto, lenses: list[Lens], kind: str, say: Say) -> Path:
    """Frame after frame beside the film, joined when all are there."""
    folder = options.out.with_name(f"{options.out.name}.frames")
    frames = [folder / f"frame_{index:05d}.png" for index in range(len(lenses))]
    refused, deblurred, deblur = 0.0, 0.0, _deblur(options)
    with alone_in(folder):
        try:
            with Progress("Refocusing", len(lenses), say, patience=2) as progress:
                for lens, frame in zip(lenses, frames, strict=True):
                    refocused = photo.picture.refocused(lens, deblur)
                    write_png(encoded(refocused), frame)
                    refused = max(refused, float(refocused.refused.float().mean()))
                    deblurred = max(deblurred, float(refocused.deblurred.float().mean()))
                    progress.add(1)
            write_film(frames, options.fps or FPS, options.out)
        finally:
            for frame in frames:
                frame.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    _tell_refused(refused, say)
    _write_facts(options, photo, lenses, refused, deblurred)
    return options.out


def encoded(refocused: Refocused) -> Float[Tensor, "3 H W"]:
    """sRGB-encoded, not clamped at 1."""
    return srgb_curve().encode(refocused.light.cpu())


def _write(
    options: RefocusOptions, photo: OpenedPhoto, lens: Lens, refocused: Refocused, say: Say
) -> list[Path]:
    bits = STILLS[options.out.suffix.lower().lstrip(".")] or photo.bits
    paths = [options.out]
    refused, deblurred = (float(mask.float().mean()) for mask in (refocused.refused, refocused.deblurred))
    _tell_refused(refused, say)
    for mask, what in ((refocused.refused, "too_blurred"), (refocused.deblurred, "deblurred")):
        path = options.out.with_name(f"{options.out.stem}_{what}.png")
        if bool(mask.any()):
            paths.append(path)
            write_png(mask.float().cpu(), path)
        else:
            path.unlink(missing_ok=True)  # of an earlier call
    write_picture(encoded(refocused), options.out, bits, photos.exif_for_copy(options.photo))
    _write_facts(options, photo, [lens], refused, deblurred)
    return paths


def _tell_refused(share: float, say: Say) -> None:
    if share > 0:
        say(
            f"{100 * share:.2g} % of the photo is more blurred than it was to become, and stays so: only "
            "what is sharp can be shown sharp."
        )


def _write_facts(
    options: RefocusOptions, photo: OpenedPhoto, lenses: list[Lens], refused: float, deblurred: float
) -> None:
    """NAME.refocus.json beside the picture: what was measured, assumed and invented."""
    depth, camera = photo.depth, photo.camera
    taken = camera.taken
    facts = {
        "photo": str(options.photo),
        "depth": {"source": depth.source, "unit": depth.unit or "none", "estimated": depth.estimated},
        "taken": taken and {"focus_distance": float(taken.focus_distance), "K": float(taken.K)},
        "lenses": [
            {"focus_distance": lens.focus_distance, "aperture_diameter": lens.aperture_diameter}
            for lens in (lenses if len(lenses) < 2 else (lenses[0], lenses[-1]))
        ],
        "blades": options.blades, "blade_rotation": options.blade_rotation, "highlights": options.highlights,
        "focal_px": photo.picture.focal_px,
        "invented": {
            "hidden_parts": "filled from their neighbourhood",
            "deblurred_share": deblurred,
            "deblurred_by": load_deblurrer().facts if deblurred else None,
        },
        "too_blurred_share": refused,
        "notes": [*depth.warnings, *camera.notes],
    }  # fmt: skip
    write_text(options.out.with_suffix(FACTS), json.dumps(facts, indent=1) + "\n")
