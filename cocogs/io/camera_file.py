"""camera.json: a physical camera as a file (docs/camera-json.md)."""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.camera_path import number
from cocogs.io.json_file import read_json
from cocogs.io.source import MAX_SIDE

Part = TypeVar("Part")

SCHEMA = "cocogs-camera/1"
CAMERA = "camera.json"  # beside simulated pictures
ADVICE = "write it again (docs/camera-json.md tells what it holds)"


@dataclass(frozen=True)
class Sensor:
    """Its size in mm and in px."""

    width_mm: float
    height_mm: float
    width: int
    height: int


@dataclass(frozen=True)
class Vignetting:
    """See `cocogs.optics.photometry.Vignette`."""

    coefficients: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 0.0),)
    wide_open: tuple[tuple[float, ...], ...] | None = None
    f_number: float | None = None
    center: tuple[float, ...] = (0.0, 0.0)


@dataclass(frozen=True)
class Noise:
    """Of pixel values before the response, in parts of white.

    A pixel that gathers E shows E + D t + n sqrt(g (E + D t)) + m r + F p: n, m and F are normal, n and m
    anew in every picture, F the same in all.

    Args:
        shot_gain: g, variance over mean: 1 / the electrons that make white.
        read_noise: r, standard deviation.
        dark_current: D, per second of the shutter time t.
        fixed_pattern: p, standard deviation.
    """

    shot_gain: float = 0.0
    read_noise: float = 0.0
    dark_current: float = 0.0
    fixed_pattern: float = 0.0


@dataclass(frozen=True)
class Distortion:
    """Brown-Conrady, as OpenCV's."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0


@dataclass(frozen=True)
class Reference:
    """The settings at which light 1 is white."""

    f_number: float
    shutter_s: float
    iso: float


@dataclass(frozen=True)
class CameraFile:
    """What the file says. All but the sensor may be unknown.

    Args:
        focus_distance_m: from the lens to the plane in focus; 1e9 is as good as infinity.
        white_balance: factors on red, green and blue.
        response: pixel values of light at even steps of its sRGB-encoded value; () for sRGB.
        reference: None: the camera's own settings.
    """

    sensor: Sensor
    focal_length_mm: float | None = None
    f_number: float | None = None
    focus_distance_m: float | None = None
    shutter_s: float | None = None
    iso: float | None = None
    blades: int = 0
    blade_rotation: float = 0.0
    white_balance: tuple[float, ...] = (1.0, 1.0, 1.0)
    response: tuple[float, ...] = ()
    reference: Reference | None = None
    vignetting: Vignetting | None = None
    noise: Noise | None = None
    distortion: Distortion = field(default_factory=Distortion)

    @property
    def white_at(self) -> Reference | None:
        """The settings at which light 1 is white: those of `reference`, or the camera's own; None where a
        setting is unknown."""
        if self.reference is None and self.f_number and self.shutter_s and self.iso:
            return Reference(self.f_number, self.shutter_s, self.iso)
        return self.reference


PARTS: dict[str, type] = {
    "sensor": Sensor, "reference": Reference, "vignetting": Vignetting, "noise": Noise,
    "distortion": Distortion,
}  # fmt: skip
POLYNOMIALS = ("coefficients", "wide_open")
FACTORS = ("white_balance", "gains")  # the latter in lens.json
LISTS = {**dict.fromkeys(FACTORS, 3), "response": 0, "center": 2, **dict.fromkeys(POLYNOMIALS, 3)}
WHOLE = ("width", "height", "blades")
ANY = (-1e6, 1e6)
NEAREST_AND_FARTHEST = (1e-4, 1e9)  # metres
RANGES = {
    "width_mm": (0.01, 1e4), "height_mm": (0.01, 1e4), "width": (1, MAX_SIDE), "height": (1, MAX_SIDE),
    "focal_length_mm": (0.01, 1e5), "f_number": (0.1, 1000), "focus_distance_m": NEAREST_AND_FARTHEST,
    "shutter_s": (1e-7, 1e6), "iso": (0.1, 1e7), "blades": (0, 100), "blade_rotation": ANY,
    "shot_gain": (0, 1e3), "read_noise": (0, 1e3), "dark_current": (0, 1e3), "fixed_pattern": (0, 1e3),
    **dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), ANY),
}  # fmt: skip


def write_camera_file(file: CameraFile, path: Path) -> None:
    """Raises InputError if it cannot be written."""
    write_text(path, json.dumps({"schema": SCHEMA, **asdict(file)}, indent=2) + "\n")


def read_camera_file(path: Path) -> CameraFile:
    """Read it back.

    Raises:
        InputError: it is not such a file, or a number is missing or out of its range; the message names it.
    """
    if not path.exists():
        raise InputError(
            f"{path} does not exist: give a camera file (docs/camera-json.md tells what it holds)."
        )
    document = read_json(path, ADVICE)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a camera file of cocogs: {ADVICE}.")
    entries = {name: value for name, value in document.items() if name != "schema"}
    if not isinstance(entries.get("sensor"), dict):
        raise InputError(f'{path}: "sensor" is missing: {ADVICE}.')
    file = part(CameraFile, entries, str(path))
    if problem := _problem(file):
        raise InputError(f"{path}: {problem}: {ADVICE}.")
    return file


def _problem(file: CameraFile) -> str | None:
    """What does not fit together."""
    if (
        file.focal_length_mm
        and file.focus_distance_m
        and file.focus_distance_m <= file.focal_length_mm / 1000
    ):
        return '"focus_distance_m" is nearer than the focal length'
    if file.blades in (1, 2):
        return f'"blades" must be 0 (round) or at least 3, not {file.blades}'
    if file.vignetting and (file.vignetting.wide_open is None) != (file.vignetting.f_number is None):
        return '"wide_open" and "f_number" go together in "vignetting"'
    return None


def part(kind: type[Part], entries: dict, place: str) -> Part:
    """An object of the file. What is null is as good as absent."""
    known = {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := next((name for name in entries if name not in known), None):
        raise InputError(f'{place}: "{unknown}" is not among {", ".join(known)}: {ADVICE}.')
    values = {}
    for name, field_ in known.items():
        if entries.get(name) is not None:
            values[name] = _value(name, entries[name], place)
        elif field_.default is MISSING and field_.default_factory is MISSING:
            raise InputError(f'{place}: "{name}" is missing: {ADVICE}.')
    return kind(**values)


def _value(name: str, value: Any, place: str) -> Any:
    if name in PARTS:
        if not isinstance(value, dict):
            raise InputError(f'{place}: "{name}" is not an object: {ADVICE}.')
        return part(PARTS[name], value, f'{place}, "{name}"')
    if name in LISTS:
        return list_of(name, value, place)
    low, high = RANGES[name]
    found = number({name: value}, name, place)
    if not low <= found <= high or (name in WHOLE and not found.is_integer()):
        kind = "a whole number" if name in WHOLE else "a number"
        raise InputError(
            f'{place}: "{name}" must be {kind} from {low:g} to {high:g}, not {found:g}: {ADVICE}.'
        )
    return int(found) if name in WHOLE else found


def list_of(name: str, value: Any, place: str) -> tuple:
    """A list of numbers, or for polynomials of lists of three, one or three of them."""
    if not isinstance(value, list):
        raise InputError(f'{place}: "{name}" is not a list: {ADVICE}.')
    if name in POLYNOMIALS:
        if len(value) not in (1, 3) or not all(isinstance(row, list) and len(row) == 3 for row in value):
            raise InputError(f'{place}: "{name}" must be one or three lists of three numbers: {ADVICE}.')
        return tuple(tuple(number({name: x}, name, place) for x in row) for row in value)
    numbers = tuple(number({name: x}, name, place) for x in value)
    if name == "response":
        rising = all(low < high for low, high in pairwise(numbers))
        if numbers and not (len(numbers) >= 2 and rising and numbers[0] == 0 and numbers[-1] == 1):
            raise InputError(f'{place}: "response" must rise from 0 to 1: {ADVICE}.')
    elif len(numbers) != LISTS[name] or (name in FACTORS and min(numbers) <= 0):
        raise InputError(f'{place}: "{name}" must be {LISTS[name]} numbers, of light above 0: {ADVICE}.')
    return numbers
