"""Vignetting and distortion of a lens that lensfun's database knows, by the EXIF of one photo.

lensfun is asked what it would do to the photo, so that its conventions stay its own: where it would fetch
each pixel from, and by how much it would brighten it. Both are the inverse of what the lens did.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cocogs.errors import InputError, optional_package
from cocogs.io import photos
from cocogs.io.camera_file import CameraFile, Distortion, Sensor, Vignetting
from cocogs.io.exif import DIAGONAL_35MM, LensFacts
from cocogs.io.lens_tables import find_bodies, find_lenses

FAR = 1000.0  # m, where EXIF tells no focus distance
SIDE = 240  # px of the longer side of the picture that lensfun is asked about
PREFERRED = 10.0  # weight of the photo's own f-number in the fit; others have 1
STOPPED_DOWN = 4.0  # times the smallest f-number; beyond it vignetting hardly changes


@dataclass(frozen=True)
class KnownLens:
    """What EXIF and lensfun tell of a camera.

    Args:
        camera: of the photo's size and settings, as far as they are known.
        name: the lens, as lensfun calls it.
        off_px: largest difference of the distortion from lensfun's, px of the photo.
        off_light: largest difference of the vignette from lensfun's, as a part of the middle's light; None
            where lensfun knows no vignetting.
    """

    camera: CameraFile
    name: str
    off_px: float
    off_light: float | None


def known_lens(photo: Path) -> KnownLens:
    """What is known of the lens that took a photo.

    Raises:
        InputError: lensfunpy is missing, EXIF does not name the lens, or lensfun does not know it.
    """
    lensfun = optional_package(
        "lensfunpy", "`lens` needs lensfunpy: install it with pip install 'cocogs[calibrate]'."
    )
    header = photos.read_header(photo)
    facts, size = header.lens, (header.stored_width, header.stored_height)
    if facts.camera_model is None or facts.focal_length_mm is None:
        raise InputError(
            f"{photo} does not name camera and focal length in its EXIF: give it as the camera wrote it."
        )
    body, lens = _found(lensfun.LensType, facts, photo)
    mm_per_px = DIAGONAL_35MM / body.crop_factor / math.hypot(*size)
    asked = tuple(max(2, round(side * SIDE / max(size))) for side in size)

    def modifier(f_number: float, flags: int) -> Any:
        one = lensfun.Modifier(lens, body.crop_factor, *asked)
        distance = facts.focus_distance or FAR
        one.initialize(facts.focal_length_mm, f_number, distance, 1.0, pixel_format=np.float32, flags=flags)
        return one

    f_px = facts.focal_length_mm / mm_per_px * asked[0] / size[0]
    fetched = modifier(facts.f_number or 8.0, lensfun.ModifyFlags.DISTORTION).apply_geometry_distortion()
    scale, distortion, off = (1.0, Distortion(), 0.0) if fetched is None else _distortion(fetched, f_px)
    apertures = _apertures(lens, facts)
    pictures = [(n, _darkened(modifier(n, lensfun.ModifyFlags.VIGNETTING), asked)) for n in apertures]
    shades = [(n, picture) for n, picture in pictures if picture is not None]
    vignetting, off_light = _vignetting(shades, facts.f_number) if shades else (None, None)
    if fetched is None and not shades:
        raise InputError(f"lensfun knows {lens.model}, but neither its distortion nor its vignetting.")
    camera = CameraFile(
        Sensor(size[0] * mm_per_px, size[1] * mm_per_px, *size),
        focal_length_mm=facts.focal_length_mm * scale,
        f_number=facts.f_number,
        focus_distance_m=facts.focus_distance,
        shutter_s=facts.shutter_s,
        iso=facts.iso,
        vignetting=vignetting,
        distortion=distortion,
    )
    return KnownLens(camera, f"{lens.maker} {lens.model}", off * size[0] / asked[0], off_light)


def _found(kinds: Any, facts: LensFacts, photo: Path) -> tuple[Any, Any]:
    """lensfun's camera and lens."""
    bodies = find_bodies(facts.camera_maker, facts.camera_model)
    if not bodies:
        raise InputError(f"lensfun does not know the {facts.camera_model} of {photo}: leave out `lens`.")
    lenses = find_lenses(bodies[0], facts.lens_model)
    if not lenses or (facts.lens_model is None and len(lenses) > 1):
        lens = facts.lens_model or "lens, which EXIF does not name,"
        raise InputError(
            f"lensfun does not know the {lens} of {photo} on a {bodies[0].model}: leave out `lens`."
        )
    if lenses[0].type != kinds.RECTILINEAR:
        raise InputError(f"{lenses[0].model} is a fisheye lens, which camera.json cannot describe.")
    return bodies[0], lenses[0]


def _distortion(fetched: np.ndarray, f_px: float) -> tuple[float, Distortion, float]:
    """Brown-Conrady's k1, k2, k3 of where lensfun fetches pixels from, and its scale in the middle.

    Args:
        fetched: (H, W, 2) places in the distorted picture, px.
        f_px: focal length, px of that picture.

    Returns:
        The scale, which belongs to the focal length; the coefficients; their largest error, px.
    """
    height, width = fetched.shape[:2]
    x, y = np.arange(width) - (width - 1) / 2, np.arange(height)[:, None] - (height - 1) / 2
    true = np.hypot(x, y).ravel() / f_px
    seen = np.hypot(fetched[..., 0] - (width - 1) / 2, fetched[..., 1] - (height - 1) / 2).ravel() / f_px
    powers = np.stack([true, true**3, true**5, true**7], 1)
    found = np.linalg.lstsq(powers, seen, rcond=None)[0]
    scale = float(found[0])
    k1, k2, k3 = (float(k) for k in found[1:] / scale)
    return scale, Distortion(k1=k1, k2=k2, k3=k3), float(np.abs(powers @ found - seen).max()) * f_px


def _apertures(lens: Any, facts: LensFacts) -> list[float]:
    """The f-numbers at which lensfun knows the vignetting near the focal length, and the photo's own; at
    most `STOPPED_DOWN` times the widest."""
    focal = facts.focal_length_mm or 0.0
    nearest = min((abs(c.focal - focal) for c in lens.calib_vignetting), default=0.0)
    known = {round(c.aperture, 3) for c in lens.calib_vignetting if abs(c.focal - focal) <= nearest + 1e-3}
    if not known:
        return []
    return sorted(
        {n for n in (*known, facts.f_number or min(known)) if min(known) <= n <= STOPPED_DOWN * min(known)}
    )


def _darkened(modifier: Any, size: tuple[int, ...]) -> np.ndarray | None:
    """(H, W) part of the middle's light that the lens lets through; None where lensfun does not know."""
    picture = np.ones((size[1], size[0], 3), np.float32)
    return 1 / picture[..., 1].astype(np.float64) if modifier.apply_color_modification(picture) else None


def _vignetting(shades: list[tuple[float, np.ndarray]], f_number: float | None) -> tuple[Vignetting, float]:
    """A and B of `photometry.Vignette`, fitted to pictures at several f-numbers, and their largest error.
    With one f-number A is 0: all vignetting goes as the lens is stopped down.

    Args:
        shades: f-numbers, the smallest first, and what the lens lets through at each, as by `_darkened`.
        f_number: of the photo; counts `PREFERRED` times as much as the others.
    """
    widest = shades[0][0]
    height, width = shades[0][1].shape
    half = math.hypot(width, height) / 2
    x, y = np.arange(width) + 0.5 - width / 2, np.arange(height)[:, None] + 0.5 - height / 2
    squared = ((x**2 + y**2) / half**2).ravel()
    powers = np.stack([squared, squared**2, squared**3], 1)
    rows = [np.concatenate([powers, powers * (widest / n) ** 2], 1) for n, _ in shades]
    columns, lost = np.concatenate(rows), np.concatenate([shade.ravel() - 1 for _, shade in shades])
    columns = columns if len(shades) > 1 else columns * np.array([0, 0, 0, 1, 1, 1])
    weights = np.repeat([PREFERRED if n == f_number else 1.0 for n, _ in shades], len(squared))
    found = np.linalg.lstsq(columns * weights[:, None], lost * weights, rcond=None)[0]
    stays, goes = (tuple(float(a) for a in part) for part in (found[:3], found[3:]))
    return Vignetting((stays,), (goes,), widest), float(np.abs(columns @ found - lost).max())
