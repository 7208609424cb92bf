"""From EXIF to a focal length in px: the one place where this is done (docs/intrinsics.md, "EXIF").

EXIF tells it in up to three ways: the 35 mm equivalent, the focal length with the resolution of the focal
plane, the focal length with the sensor of the camera model. They must agree; the surest one counts.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from cocogs.io.exif import DIAGONAL_35MM, NAMED_FOCAL_LENGTH, LensFacts
from cocogs.io.lens_estimate import SIGMAS, Abstention, LensEstimate
from cocogs.io.lens_tables import KnownSensor, is_known_fisheye, known_sensor
from cocogs.io.photos import PhotoHeader

SOURCE = "exif"
# Standard deviations, as parts of the focal length. All ways share NAMED_FOCAL_LENGTH. What they do not
# share: cameras write a round factor (1.5, 2) for the 35 mm equivalent, and whole mm.
ROUND_FACTOR, ROUNDED_MM = 0.01, 1 / math.sqrt(12)
# By the rule of CIPA diagonals are compared, but some makers compare widths or heights: on 4:3 4 % and -8 %.
CONVENTION_4_3 = 0.016
FOCAL_PLANE = 0.015  # some Canons write 3 % more or less than their sensor has
UNUSUAL_SHAPE = 0.01  # the sensor's shape is guessed from its size
# Beyond the ways themselves.
CLOSEST = 1.0  # m; with no focus distance in EXIF, the vergence is evenly distributed from 0 to 1 / CLOSEST
ZOOM_COUNTED_TWICE = 0.43  # of the logarithm of the digital zoom: one in four 35 mm equivalents leaves it out
EDITED, EDITED_CENTER = 0.1, 0.05  # a crop by a program that makes EXIF's sizes those of the crop
ACTION = 0.1  # action cameras: the field of view of a mode, and strong distortion
CENTER = 0.01  # of the longer side; of the principal point of a photo that was not cropped (assumed)

SAME_SHAPE = 0.015  # logarithm of the ratio of two aspects
# A crop that may have been made smaller by up to LARGEST_RESIZE: by how much is evenly distributed. Beyond, a
# plain crop would have kept less than a quarter: it was made smaller, from the largest part or somewhat less.
LARGEST_RESIZE, FURTHER_CROP = 2.0, 0.2
STITCHED = 2.5  # longer over shorter side
# mm. Lenses outside of these are damage; so are 35 mm equivalents.
FOCAL_LENGTHS, IN_35MM = (0.5, 3000.0), (7.0, 5000.0)
# 35 mm equivalent over focal length: from sensors larger than medium format to those of 1/10 inch.
CROP_FACTORS = 0.55, 24.0
SMALLER_PART = 1.15, 2.3  # by so much the view may be narrower than the whole sensor's: crop modes

_FISHEYE = re.compile(r"fish.?eye|\bcircular fish", re.IGNORECASE)
_ACTION = re.compile(r"gopro|insta360|osmo|action|\byi\b|akaso|sjcam", re.IGNORECASE)
_EDITORS = re.compile(
    r"photoshop|lightroom|gimp|darktable|rawtherapee|capture one|affinity|snapseed|luminar|picasa|instagram|"
    r"pixelmator|acdsee|paint|irfanview|xnview|digikam|dxo|photolab|on1|imagemagick|vsco|canva|facetune|"
    r"picsart|photoscape|aperture|preview|windows photo|microsoft|google photos|nx studio|capture nx|"
    r"digital photo professional|silkypix|corel|polarr|fotor",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Way:
    """One way to the focal length.

    Args:
        focal: px of the frame that EXIF describes.
        deviation: as a part of it, without what all ways share.
        basis: for the user.
        by_body: by the sensor of the camera model, whatever part of it was used.
        sure: not by a table that may have another sensor.
    """

    focal: float
    deviation: float
    basis: str
    by_body: bool = False
    sure: bool = True


@dataclass(frozen=True)
class _Frame:
    """The picture that EXIF describes, and how the photo came from it.

    Args:
        size: longer and shorter side, px.
        scale: px of the photo in one of the frame.
        deviation: of the scale, as a part of it.
        offset: deviations of the principal point from the photo's middle, px of the photo.
        notes: for the user.
    """

    size: tuple[float, float]
    scale: float
    deviation: float
    offset: tuple[float, float]
    notes: tuple[str, ...] = ()


def lens_by_exif(header: PhotoHeader) -> LensEstimate | Abstention:
    """The lens of a photo by its EXIF."""
    if header.gpano:
        return Abstention(SOURCE, "The photo is a panorama, of which EXIF tells no focal length.")
    return lens_by_facts(header.lens, header.size(upright=True))


def lens_by_facts(facts: LensFacts, size: tuple[int, int]) -> LensEstimate | Abstention:
    """The lens of a photo by what its EXIF says.

    Args:
        size: width and height of the upright photo, or of a smaller copy of it, px.

    Returns:
        An `Abstention` too where EXIF contradicts itself: it names both numbers.
    """
    if reason := _why_not(facts, size):
        return Abstention(SOURCE, reason)
    frame = _frame(facts, size)
    sensor = known_sensor(facts.camera_maker, facts.camera_model)
    ways, zoomed, notes = _ways(facts, frame, sensor)
    if not ways:
        return Abstention(
            SOURCE,
            f"EXIF tells a focal length of {facts.focal_length_mm:g} mm, but not how large the sensor is, "
            f"and no table knows the camera ({facts.camera_model or 'not named'}).",
        )
    ways, cropped = _without_whole_sensor(ways)
    for one, other in combinations(ways, 2):
        if _disagree(one, other):
            return Abstention(
                SOURCE,
                f"EXIF contradicts itself: by {one.basis} the focal length is {one.focal * frame.scale:.0f} "
                f"px, by {other.basis} {other.focal * frame.scale:.0f} px.",
            )
    best = min(ways, key=lambda way: way.deviation)
    edited = _EDITORS.search(facts.software or "") is not None and not _shows_all(ways)
    if edited:
        notes.append(
            f"The photo was written by {facts.software}: if it was cropped there, EXIF does not tell, and "
            "the focal length in px is larger."
        )
    is_action = _ACTION.search(f"{facts.camera_maker} {facts.camera_model}") is not None
    if is_action:
        notes.append("Action cameras bend straight lines, unless their view is set to linear.")
    factor, near = _closeness(facts)
    relative = math.hypot(
        best.deviation, NAMED_FOCAL_LENGTH, frame.deviation, near, zoomed,
        EDITED if edited else 0, ACTION if is_action else 0,
    )  # fmt: skip
    focal = best.focal * frame.scale * factor
    around = math.hypot(CENTER, EDITED_CENTER if edited else 0) * max(size)
    center = math.hypot(around, frame.offset[0]), math.hypot(around, frame.offset[1])
    return LensEstimate(
        SOURCE, size, (focal, focal), (relative * focal, relative * focal), (size[0] / 2, size[1] / 2),
        center, best.basis, notes=(*frame.notes, *cropped, *notes),
    )  # fmt: skip


def is_fisheye(facts: LensFacts) -> bool:
    """EXIF names a fisheye lens, by its name or by what lensfun knows of it."""
    return bool(_FISHEYE.search(facts.lens_model or "")) or is_known_fisheye(
        facts.camera_maker, facts.camera_model, facts.lens_model
    )


def _why_not(facts: LensFacts, size: tuple[int, int]) -> str | None:
    """Why EXIF cannot tell at all; None where it may."""
    mm, equivalent = facts.focal_length_mm, facts.focal_length_35mm
    if mm is None and equivalent is None:
        return (
            "EXIF tells no focal length; scans, screenshots, and photos that were sent by messengers or "
            "exported without metadata have none."
        )
    if is_fisheye(facts):
        return f"The lens is a fisheye ({facts.lens_model}), whose picture no single focal length describes."
    if mm is not None and not FOCAL_LENGTHS[0] <= mm <= FOCAL_LENGTHS[1]:
        return f"EXIF tells a focal length of {mm:g} mm, which no camera's lens has."
    if equivalent is not None and not IN_35MM[0] <= equivalent <= IN_35MM[1]:
        return f"EXIF tells a 35 mm equivalent of {equivalent:g} mm, which no camera's lens has."
    zoom = facts.digital_zoom or 1.0
    if mm and equivalent and not CROP_FACTORS[0] <= equivalent / mm <= CROP_FACTORS[1] * zoom:
        return (
            f"EXIF contradicts itself: no sensor makes a focal length of {mm:g} mm one of {equivalent:g} mm "
            "in 35 mm equivalent."
        )
    told = facts.told_px or size
    if max(size) > STITCHED * min(size) and max(told) > STITCHED * min(told):
        return (
            f"The photo is {max(size) / min(size):.1f} times as long as wide, as stitched panoramas are, of "
            "which EXIF tells no focal length."
        )
    return None


def _frame(facts: LensFacts, size: tuple[int, int]) -> _Frame:
    """How the photo came from the picture that EXIF describes: as it is, made smaller, or cropped."""
    long, short = max(size), min(size)
    told = facts.told_px or (0, 0)
    whole = max(told), min(told)
    same = bool(whole[1]) and abs(math.log(long * whole[1] / (short * whole[0]))) < SAME_SHAPE
    if same:
        return _Frame((long, short), 1.0, 0.0, (0.0, 0.0))  # whether it was made smaller changes nothing
    if long > 1.02 * whole[0] or short > 1.02 * whole[1]:  # none told, or that of a thumbnail
        return _Frame((long, short), 1.0, 0.0, (0.0, 0.0))
    # Cropped. A crop may make a high photo of a wide frame; and EXIF's frame may lie while the photo stands.
    least = min(max(size[0] / w, size[1] / h) for w, h in (whole, whole[::-1]))
    frame = whole if max(size[0] / whole[0], size[1] / whole[1]) == least else whole[::-1]
    notes = [
        f"The photo has {size[0]}x{size[1]} px and EXIF tells of {told[0]}x{told[1]}: it was cropped, so its "
        "principal point may lie off the middle."
    ]
    scale, deviation = 1.0, 0.0
    if least * LARGEST_RESIZE < 1:
        scale, deviation = least, FURTHER_CROP
        notes.append("It is taken for the largest part of its shape, made smaller.")
    elif least < 0.98:
        scale, deviation = math.sqrt(least), -math.log(least) / math.sqrt(12)
        notes.append(f"It may also have been made smaller, by up to {1 / least:.2f} times.")
    # Where in the frame the crop lies is anyone's guess: evenly distributed.
    across, down = ((scale * side - px) / math.sqrt(12) for side, px in zip(frame, size, strict=True))
    return _Frame(whole, scale, deviation, (max(0.0, across), max(0.0, down)), tuple(notes))


def _ways(facts: LensFacts, frame: _Frame, sensor: KnownSensor | None) -> tuple[list[_Way], float, list[str]]:
    """All ways to the focal length, the deviation that a digital zoom brings, and notes."""
    mm, equivalent, zoom = facts.focal_length_mm, facts.focal_length_35mm, facts.digital_zoom or 1.0
    ways, notes, zoomed = [], [], 0.0
    if mm is not None and facts.sensor_mm is not None and _is_whole(facts, frame):
        focal = zoom * mm * _px_per_mm(frame.size, facts.sensor_mm)
        wide, high = facts.sensor_mm
        ways.append(_Way(focal, FOCAL_PLANE, f"{mm:g} mm and a focal plane of {wide:.1f} x {high:.1f} mm"))
    if mm is not None and sensor is not None:
        aspect, is_usual = _aspect(frame.size, sensor.diagonal or 1.22 * (sensor.width or 0))
        focal = zoom * mm * _px_per_mm(frame.size, sensor.sides(aspect))
        deviation = math.hypot(sensor.deviation, 0 if is_usual else UNUSUAL_SHAPE)
        wide = sensor.sides(aspect)[0]
        basis = f"{mm:g} mm on the {facts.camera_model}'s sensor, {wide:.1f} mm wide ({sensor.table})"
        ways.append(_Way(focal, deviation, basis, by_body=True, sure=sensor.sure))
    if equivalent is not None:
        way = _by_equivalent(equivalent, mm, frame)
        if zoom > 1:
            without = _Way(way.focal * zoom, way.deviation, f"{way.basis} without digital zoom")
            others = [one.focal for one in ways]
            if others:  # the sensor tells whether the camera counted its digital zoom
                way = min(way, without, key=lambda one: abs(math.log(one.focal / others[-1])))
            elif facts.camera_maker != "Apple":  # whose phones count it
                zoomed = ZOOM_COUNTED_TWICE * math.log(zoom)
                notes.append(
                    f"The digital zoom of {zoom:.2f} is taken to be part of the 35 mm equivalent of "
                    f"{equivalent:g} mm; not all cameras write it so."
                )
        ways.append(way)
    return ways, zoomed, notes


def _by_equivalent(equivalent: float, mm: float | None, frame: _Frame) -> _Way:
    """The 35 mm equivalent is that of the whole sensor, by its diagonal; a wider picture is a part of it."""
    diagonal = DIAGONAL_35MM * mm / equivalent if mm is not None else None
    aspect, is_usual = _aspect(frame.size, diagonal)
    sides = DIAGONAL_35MM * aspect / math.hypot(aspect, 1), DIAGONAL_35MM / math.hypot(aspect, 1)
    focal = equivalent * _px_per_mm(frame.size, sides)
    if not is_usual:  # half of the way to where the picture's own diagonal is compared
        convention = abs(math.log(equivalent / DIAGONAL_35MM * math.hypot(*frame.size) / focal)) / 2
    else:
        convention = CONVENTION_4_3 if aspect < 1.4 else 0.0
    deviation = math.hypot(ROUNDED_MM / equivalent, ROUND_FACTOR, convention)
    return _Way(focal, deviation, f"{equivalent:g} mm in 35 mm equivalent")


def _is_whole(facts: LensFacts, frame: _Frame) -> bool:
    """EXIF's size, from which its sensor was computed, is that of the frame or of a larger copy of it."""
    told = facts.told_px or (0, 0)
    return min(told) > 0 and abs(math.log(frame.size[0] / frame.size[1] * min(told) / max(told))) < SAME_SHAPE


def _aspect(frame: tuple[float, float], diagonal: float | None) -> tuple[float, bool]:
    """Longer over shorter side of the sensor, and whether it is the frame's.

    Where the frame is neither 4:3 nor 3:2 it is a part of the sensor, whose shape its size tells.

    Args:
        diagonal: of the sensor, mm; None: not known.
    """
    own = frame[0] / frame[1]
    if any(abs(math.log(own / usual)) < 2 * SAME_SHAPE for usual in (4 / 3, 3 / 2)):
        return own, True
    # One inch, and APS-C to 36 x 24 mm, are 3:2; phones, Four Thirds and medium format 4:3.
    is_3_2 = diagonal is not None and (14.5 <= diagonal <= 18 or 24 <= diagonal <= 46)
    return (3 / 2 if is_3_2 else 4 / 3), False


def _px_per_mm(px: Sequence[float], mm: Sequence[float]) -> float:
    """Of a frame that is the largest part of its shape of a sensor; longer sides first."""
    return max(side / length for side, length in zip(px, mm, strict=True))


def _without_whole_sensor(ways: list[_Way]) -> tuple[list[_Way], list[str]]:
    """Without the way by the camera model's sensor, where others show that only a part of it was used, or
    where they contradict a table that is not sure."""
    body = next((way for way in ways if way.by_body), None)
    others = [way for way in ways if not way.by_body]
    if body is None or not others:
        return ways, []
    if not body.sure and any(_disagree(body, way) for way in others):
        return others, [f"EXIF contradicts {body.basis}, which is not used."]
    parts = [way.focal / body.focal for way in others]
    if not all(SMALLER_PART[0] <= part <= SMALLER_PART[1] for part in parts):
        return ways, []
    return others, [
        f"The photo shows a part of the camera's sensor, 1/{parts[0]:.2g} of its width, as in a crop mode."
    ]


def _disagree(one: _Way, other: _Way) -> bool:
    return abs(math.log(one.focal / other.focal)) > SIGMAS * math.hypot(one.deviation, other.deviation)


def _shows_all(ways: list[_Way]) -> bool:
    """The focal plane in EXIF and the camera's sensor agree: nothing was cut off."""
    return any(way.by_body for way in ways) and any("focal plane" in way.basis for way in ways)


def _closeness(facts: LensFacts) -> tuple[float, float]:
    """By how much a lens focused nearby draws larger than one focused at infinity: 1 / (1 - f / U) of a thin
    lens focused at U; and its deviation. Lenses that focus inside do so less."""
    if facts.focal_length_mm is None:
        return 1.0, 0.0
    f = facts.focal_length_mm / 1000
    if facts.focus_distance is not None:
        factor = 1 / (1 - min(f / facts.focus_distance, 0.5))
        return factor, (factor - 1) / 2
    return 1.0, min(f / CLOSEST / math.sqrt(12), 0.1)
