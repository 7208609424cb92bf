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
from cocogs.io.exif_lens import lens_by_facts
from cocogs.io.lens_estimate import LensEstimate
from cocogs.optics.lens import PhotoLens
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.photo.depth import METRES, PictureDepth, depth_around
from cocogs.photo.depth_run import LearnedOfPhoto
from cocogs.quantiles import quantiles
from cocogs.render.options import parse_f_number, parse_point

ASSUMED_MEDIAN = 2.0  # metres; the median distance of what a photo with relative depth shows
ASSUMED_FOCAL_LENGTH = 50.0  # mm on a 36 x 24 mm frame, of a photo whose EXIF does not tell
ANOTHER_SHAPE = 0.02  # logarithm of the ratio of two aspects
WIDEST_APERTURE = 1e6  # in the unit of the depth
LARGEST_CROP = 2.1  # crop factor; cameras with smaller sensors, phones first, count as full frame
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
        own_diameter: the aperture of which others are multiples, in the unit of the depth. None: unknown.
        notes: sentences for the user: what an f-number means here, and what was assumed.
    """

    focal_px: float
    focal_length: float | None
    taken: PhotoLens | None
    own_diameter: float | None = None
    notes: tuple[str, ...] = ()

    def diameter(self, f_number: float) -> float:
        """Of the aperture, in the unit of the depth.

        Raises:
            InputError: the f-number is out of range, or its meaning cannot be known.
        """
        check_number("f_number", f_number, above=0, example="2.8")
        if self.focal_length is None:
            raise InputError(
                "`f_number` needs the f-number of the run's photos, and their EXIF has none: give "
                "`aperture=1.5x`, a factor of the learned aperture."
            )
        return _in_range(self.focal_length / f_number, "f_number")

    def multiple(self, factor: float) -> float:
        """Diameter of an aperture that is `factor` times as wide as the photo's own.

        Raises:
            InputError: the photo's own is unknown.
        """
        if self.own_diameter is None:
            raise InputError(
                "`aperture` is a factor of the aperture that the photo was taken with, which is not known: "
                "give `f_number`, or tell by `source` how the photo was taken."
            )
        return _in_range(factor * self.own_diameter, "aperture")


def _in_range(diameter: float, name: str) -> float:
    if diameter > WIDEST_APERTURE:
        raise InputError(
            f"`{name}` is out of range: an aperture of {diameter:.3g} would blur everything away."
        )
    return diameter


def find_camera(facts: LensFacts, depth: PictureDepth, source: str | None) -> PhotoCamera:
    """The camera of a photo.

    Args:
        facts: from the photo's EXIF.
        depth: of the photo's size.
        source: as `SOURCES` says; None: by EXIF, or as a run has learned it.

    Raises:
        InputError: no such source, or one that does not fit the depth.
    """
    if source is not None and source.lower().endswith(".json"):
        return _given(Path(source), depth)
    learned = depth.learned
    camera = _by_exif(facts, depth, source) if learned is None else _learned(depth, learned, source)
    if source is None:
        return camera
    if source.lower() == SHARP:
        return replace(camera, taken=None)
    text, _, focus = source.partition("@")
    f_number = parse_f_number(text)
    if math.isnan(f_number) or not focus:
        raise InputError(f"`source` must be {SOURCES}, not {source}.")
    diameter = camera.diameter(f_number)
    if learned is None and facts.focal_length_mm is not None:  # not that of full frame, which is wanted
        diameter = facts.focal_length_mm / 1000 / _metres_per_unit(depth) / f_number
    distance = focus_distance("source", focus, depth)
    return replace(camera, taken=_lens(distance, diameter, camera.focal_px), own_diameter=diameter)


def _lens(distance: float, diameter: float, focal_px: float) -> PhotoLens:
    """Raises InputError where the blur would be no number."""
    K = torch.tensor(diameter * focal_px)
    if not math.isfinite(float(K)):
        raise InputError(f"An aperture of {diameter:.3g} is out of range: give another f-number in `source`.")
    return PhotoLens(torch.tensor(float(distance)), K)


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
    wide, high = file.sensor.width, file.sensor.height
    if (height > width) != (high > wide):  # the camera was held upright
        wide, high = high, wide
    if abs(math.log(width * high / (height * wide))) > ANOTHER_SHAPE:
        raise InputError(
            f"{path} is of pictures of {wide}x{high} px, and the photo has {width}x{height}: give the "
            "camera.json of this camera."
        )
    lens, scale = camera.as_set(metres), width / wide
    (f,) = camera.known("focal_length")
    focal_px, own = float(camera.focal_px.detach()) * scale, lens.aperture_diameter
    taken = _lens(lens.focus_distance, own, focal_px)
    return PhotoCamera(focal_px, float(f.detach()) / metres, taken, own, _assumed_distance(depth))


def _by_exif(facts: LensFacts, depth: PictureDepth, source: str | None) -> PhotoCamera:
    height, width = depth.depth.shape
    notes = list(_assumed_distance(depth))
    diagonal = math.hypot(width, height)
    found = lens_by_facts(facts, (width, height))
    if isinstance(found, LensEstimate):
        focal_px = found.focal[0]
        notes += found.notes
    else:
        focal_px = ASSUMED_FOCAL_LENGTH / DIAGONAL_35MM * diagonal
        notes.append(f"{found.reason} The view of {ASSUMED_FOCAL_LENGTH:g} mm on full frame is assumed.")
    full_frame = focal_px / diagonal * DIAGONAL_35MM
    focal_length_mm = facts.focal_length_mm
    if focal_length_mm is None or full_frame / focal_length_mm > LARGEST_CROP:
        focal_length_mm = full_frame
        notes.append(
            f"F-numbers are those of a full-frame camera with this angle of view ({full_frame:.0f} mm)."
        )
    metres = _metres_per_unit(depth)
    taken, diameter = None, None if facts.aperture_diameter is None else facts.aperture_diameter / metres
    if source is None:
        taken, note = _taken(facts, depth, diameter, focal_px)
        notes += note
    return PhotoCamera(focal_px, focal_length_mm / 1000 / metres, taken, diameter, tuple(notes))


def _taken(
    facts: LensFacts, depth: PictureDepth, diameter: float | None, focal_px: float
) -> tuple[PhotoLens | None, list[str]]:
    """The lens by EXIF; None, with a note, where the photo counts as sharp although it may not be."""
    if diameter is None:
        return None, ["The photo's EXIF does not tell its aperture: it counts as sharp everywhere."]
    if facts.focus_distance is not None and depth.unit == METRES:
        return _lens(facts.focus_distance, diameter, focal_px), []
    far, near = quantiles(1 / depth.depth, 0.02, 0.98).tolist()
    if diameter * focal_px * (near - far) <= HARDLY_BLURRED:
        return None, []
    example = f"{facts.f_number:g}@40%,60%"
    if facts.focus_distance is not None:
        return None, [
            f"The photo was focused at {facts.focus_distance:g} m, which says nothing in a depth without a "
            f"unit: it counts as sharp everywhere. Tell its focus by `source`, such as {example}."
        ]
    return None, [
        f"The photo was taken at f/{facts.f_number:g} with an unknown focus: it counts as sharp everywhere. "
        f"Tell its focus by `source`, such as {example}."
    ]


def _metres_per_unit(depth: PictureDepth) -> float:
    """Raises InputError where the depth is in scene units of unknown length."""
    if depth.metres_per_unit is not None:
        return depth.metres_per_unit
    if depth.unit is not None:
        raise InputError(
            f"How long a scene unit of {depth.source} is cannot be known: leave the camera.json out of "
            "`source`."
        )
    return ASSUMED_MEDIAN


def _assumed_distance(depth: PictureDepth) -> tuple[str, ...]:
    if depth.unit is not None:
        return ()
    return (
        f"The depth has no unit: half of the picture is taken to lie within {ASSUMED_MEDIAN:g} m. How strong "
        "the blur of an f-number is depends on this.",
    )


def focus_distance(name: str, text: str, depth: PictureDepth, point: bool = False) -> float:
    """A distance in the unit of the depth.

    Args:
        name: of the parameter, for messages.
        text: a point X,Y of the photo; metres such as 1.2m; a multiple of the median depth such as 1.5x;
            inf; or a number in the scene units of a run.
        point: only a point will do.

    Raises:
        InputError: no such text, or one that does not fit the depth.
    """
    words = text.strip().lower()
    if point or ("," in words and words[-1:] not in ("m", "x")):
        height, width = depth.depth.shape
        x, y = parse_point(name, words, width, height, "the photo")
        return depth_around(depth.depth, x, y)
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
