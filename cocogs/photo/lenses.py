"""The lens that a photo was taken with, and the one it shall look like: from EXIF, camera.json and words to
lengths in the unit of the depth map.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cocogs.errors import InputError, check_number
from cocogs.io.camera_file import read_camera_file
from cocogs.io.exif import DIAGONAL_35MM, LensFacts
from cocogs.optics.lens import PhotoLens
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.photo.depth import METRES, PictureDepth
from cocogs.photo.depth_run import LearnedOfPhoto
from cocogs.photo.refocus import DepthPhoto
from cocogs.quantiles import quantiles
from cocogs.render.options import parse_point

ASSUMED_MEDIAN = 2.0  # metres; the median distance of what a photo with relative depth shows
ASSUMED_FOCAL_LENGTH = 50.0  # mm on a 36 x 24 mm frame, of a photo whose EXIF does not tell
SMALLEST_OWN = 2.1  # crop factor; cameras with smaller sensors, phones first, count as full frame
HARDLY_BLURRED = 2.0  # px; a photo whose blur differs less counts as sharp
SHARP = "sharp"
SOURCES = "sharp, a camera.json, or F_NUMBER@FOCUS such as 2.8@1.5m or 2.8@40%,60%"


@dataclass(frozen=True)
class PhotoCamera:
    """What is known of the camera of one photo.

    Args:
        focal_px: focal length in px.
        focal_length: in the unit of the depth; an f-number is this over the diameter. None: unknown.
        taken: the lens that the photo was taken with; None: it is sharp everywhere.
        own: the aperture of which others are multiples, in the unit of the depth. None: unknown.
        notes: sentences for the user: what an f-number means here, and what was assumed.
    """

    focal_px: float
    focal_length: float | None
    taken: PhotoLens | None
    own: float | None = None
    notes: tuple[str, ...] = ()

    def diameter(self, f_number: float | None, factor: float | None) -> float:
        """The aperture, in the unit of the depth, by an f-number or by a factor of the photo's own.

        Raises:
            InputError: neither or both are given, or one that cannot be known.
        """
        check_number("f_number", f_number, above=0, example="2.8")
        if (f_number is None) == (factor is None):
            raise InputError("Say how blurred it shall be: give `f_number` or `aperture`, one of them.")
        if f_number is not None:
            if self.focal_length is None:
                raise InputError(
                    "`f_number` needs the f-number of the run's photos, and their EXIF has none: give "
                    "`aperture=1.5x`, a factor of the learned aperture."
                )
            return self.focal_length / f_number
        if self.own is None:
            raise InputError(
                "`aperture` is a factor of the aperture that the photo was taken with, which is not known: "
                "give `f_number`, or tell by `source` how the photo was taken."
            )
        assert factor is not None
        return factor * self.own


def find_camera(facts: LensFacts, depth: PictureDepth, source: str | None) -> PhotoCamera:
    """The camera of a photo.

    Args:
        facts: from the photo's EXIF.
        depth: of the photo's size.
        source: as `SOURCES` says; None: by EXIF, or as a run has learned it.

    Raises:
        InputError: no such source, or one that does not fit the depth.
    """
    is_file = source is not None and source.lower().endswith(".json")
    if depth.learned is not None:
        camera = _learned(depth, depth.learned, source)
    elif is_file:
        camera = _given(Path(str(source)), depth)
    else:
        camera = _by_exif(facts, depth, source)
    if source is None or is_file:
        return camera
    if source == SHARP:
        return replace(camera, taken=None)
    text, _, focus = source.partition("@")
    try:
        f_number = float(text.lower().removeprefix("f/"))
    except ValueError:
        f_number = math.nan
    if not 0 < f_number < math.inf or not focus:
        raise InputError(f"`source` must be {SOURCES}, not {source}.")
    diameter = camera.diameter(f_number, None)
    distance = focus_distance("source", focus, depth)
    return replace(camera, taken=_lens(distance, diameter, camera.focal_px), own=diameter)


def _lens(distance: float, diameter: float, focal_px: float) -> PhotoLens:
    return PhotoLens(torch.tensor(float(distance)), torch.tensor(diameter * focal_px))


def _learned(depth: PictureDepth, learned: LearnedOfPhoto, source: str | None) -> PhotoCamera:
    if learned.lens is None and source is None:
        raise InputError(
            f"{depth.source} learned no lens of this photo, which it keeps for testing: tell by `source` how "
            f"it was taken: {SOURCES}."
        )
    focal_px = learned.focal_in_widths * depth.depth.shape[1]
    length = None if learned.f_number is None else learned.f_number * learned.typical_diameter
    if (lens := learned.lens) is None:
        return PhotoCamera(focal_px, length, None, learned.typical_diameter)
    taken = _lens(lens.focus_distance, lens.aperture_diameter, focal_px)
    return PhotoCamera(focal_px, length, taken, lens.aperture_diameter)


def _given(path: Path, depth: PictureDepth) -> PhotoCamera:
    file = read_camera_file(path)
    camera, metres = PhysicalCamera(file), _metres_per_unit(depth)
    height, width = depth.depth.shape
    sensor = file.sensor
    if abs(math.log(width * sensor.height / (height * sensor.width))) > 0.02:
        raise InputError(
            f"{path} is of pictures of {sensor.width}x{sensor.height} px, and the photo has "
            f"{width}x{height}: give the camera.json of this camera."
        )
    lens, scale = camera.as_set(metres), width / sensor.width
    (f,) = camera.known("focal_length")
    focal_px, own = float(camera.focal_px.detach()) * scale, lens.aperture_diameter
    taken = _lens(lens.focus_distance, own, focal_px)
    return PhotoCamera(focal_px, float(f.detach()) / metres, taken, own, _assumed_distance(depth))


def _by_exif(facts: LensFacts, depth: PictureDepth, source: str | None) -> PhotoCamera:
    height, width = depth.depth.shape
    notes = list(_assumed_distance(depth))
    diagonal = math.hypot(width, height)
    focal_px = facts.focal_px(width, height)
    if focal_px is None:
        focal_px = ASSUMED_FOCAL_LENGTH / DIAGONAL_35MM * diagonal
        notes.append(
            "The photo's EXIF does not tell its angle of view: that of "
            f"{ASSUMED_FOCAL_LENGTH:g} mm on full frame is assumed."
        )
    full_frame = focal_px / diagonal * DIAGONAL_35MM
    own = facts.focal_length_mm
    if own is None or full_frame / own > SMALLEST_OWN:
        own = full_frame
        notes.append(
            f"F-numbers are those of a full-frame camera with this angle of view ({full_frame:.0f} mm)."
        )
    metres = _metres_per_unit(depth)
    taken, diameter = None, None if facts.aperture_diameter is None else facts.aperture_diameter / metres
    if source is None:
        taken, note = _taken(facts, depth, diameter, focal_px)
        notes += note
    return PhotoCamera(focal_px, own / 1000 / metres, taken, diameter, tuple(notes))


def _taken(
    facts: LensFacts, depth: PictureDepth, diameter: float | None, focal_px: float
) -> tuple[PhotoLens | None, list[str]]:
    """The lens by EXIF; None, with a note, where the photo counts as sharp although it may not be."""
    if diameter is None:
        return None, ["The photo's EXIF does not tell its aperture: it counts as sharp everywhere."]
    if facts.focus_distance is not None and depth.unit == METRES:
        return _lens(facts.focus_distance, diameter, focal_px), []
    near, far = (float(quantiles(1 / depth.depth, part)) for part in (0.98, 0.02))
    if diameter * focal_px * (near - far) <= HARDLY_BLURRED:
        return None, []
    example = f"{facts.f_number:g}@40%,60%"
    return None, [
        f"The photo was taken at f/{facts.f_number:g} with an unknown focus: it counts as sharp everywhere. "
        f"Tell its focus by `source`, such as {example}."
    ]


def _metres_per_unit(depth: PictureDepth) -> float:
    return 1.0 if depth.unit == METRES else ASSUMED_MEDIAN


def _assumed_distance(depth: PictureDepth) -> tuple[str, ...]:
    if depth.unit == METRES:
        return ()
    return (
        f"The depth has no unit: half of the picture is taken to lie within {ASSUMED_MEDIAN:g} m. How strong "
        "the blur of an f-number is depends on this.",
    )


def focus_distance(name: str, text: str, depth: PictureDepth) -> float:
    """A distance in the unit of the depth.

    Args:
        name: of the parameter, for messages.
        text: a point X,Y of the photo; metres such as 1.2m; a multiple of the median depth such as 1.5x;
            inf; or a number in the scene units of a run.

    Raises:
        InputError: no such text, or one that does not fit the depth.
    """
    words = text.strip().lower()
    if "," in words:
        height, width = depth.depth.shape
        x, y = parse_point(name, words, width, height, "the photo")
        return DepthPhoto(depth.depth.expand(3, -1, -1), depth.depth, 1.0).depth_at(x, y)
    unit = words[-1:] if words[-1:] in ("m", "x") else ""
    try:
        value = float(words.removesuffix(unit))
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError(
            f"`{name}` must be a point such as 40%,60%, a distance such as 1.2m, a multiple of the median "
            f"depth such as 1.5x, or inf, not {text}."
        )
    if math.isinf(value):
        return value
    if unit == "x":
        return value * float(depth.depth.median())
    if unit == "m":
        if depth.metres_per_unit is None:
            raise InputError(
                f"`{name}` in metres needs a depth in metres, and that of {depth.source} is not: give a "
                "point such as 40%,60%, or a multiple of the median depth such as 1.5x."
            )
        return value / depth.metres_per_unit
    if depth.learned is None:
        raise InputError(f"`{name}` needs a unit: give {text}m or {text}x, or a point such as 40%,60%.")
    return value
