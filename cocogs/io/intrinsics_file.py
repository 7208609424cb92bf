"""intrinsics.json: the lenses of photos, one by one, and what they rest on (docs/intrinsics.md)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.camera_path import number
from cocogs.io.json_file import read_json
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.source import is_size
from cocogs.io.undistort import is_possible

SCHEMA = "cocogs-intrinsics/1"
INTRINSICS = "intrinsics.json"  # beside photos, SfM starts from it
ADVICE = "write it again with `cocogs calibrate photo` (docs/intrinsics.md tells what it holds)"


@dataclass(frozen=True)
class Answer:
    """What was found about a photo's lens.

    Args:
        lens: the surest estimate.
        others: the other estimates; all agree with `lens`.
        silent: the sources that do not know.
    """

    lens: LensEstimate
    others: tuple[LensEstimate, ...] = ()
    silent: tuple[Abstention, ...] = ()


def write_intrinsics(
    answers: Mapping[str, Answer], unknown: Mapping[str, Sequence[Abstention]], path: Path, shared: bool
) -> None:
    """Write the file.

    Args:
        answers: by the photos' names.
        unknown: why nobody knows the lenses of other photos, by their names.
        shared: one lens was found for all photos together.

    Raises:
        InputError: it cannot be written.
    """
    photos = {name: _entry(answer) for name, answer in answers.items()}
    reasons = {name: _reasons(silent) for name, silent in unknown.items()}
    document = {"schema": SCHEMA, "shared": shared, "photos": photos, "unknown": reasons}
    write_text(path, json.dumps(document, indent=2) + "\n")


def read_intrinsics(path: Path) -> dict[str, LensEstimate]:
    """The lenses in a file, by the photos' names. Without "deviation" a lens counts as exact.

    Raises:
        InputError: it is not such a file, or a number is missing or impossible; the message names it.
    """
    document = read_json(path, ADVICE)
    photos = document.get("photos") if isinstance(document, dict) else None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not isinstance(photos, dict):
        raise InputError(f"{path} is no file of lenses of photos: {ADVICE}.")
    return {name: _lens(entry, f"{path}, {name}") for name, entry in photos.items()}


def describe(lens: LensEstimate) -> dict[str, Any]:
    """As JSON: null where a number is not known."""
    (fx, fy), (cx, cy) = lens.focal, lens.center
    horizontal, vertical, diagonal = lens.fields_of_view
    relative = lens.relative_deviation
    return {
        "width": lens.size[0],
        "height": lens.size[1],
        **{"fx": fx, "fy": fy, "cx": cx, "cy": cy, "k1": lens.k1},
        "deviation": dict(
            zip(
                ("fx", "fy", "cx", "cy", "k1"),
                map(_known, (*lens.focal_deviation, *lens.center_deviation, lens.k1_deviation)),
                strict=True,
            )
        ),
        "field_of_view_degrees": {
            "horizontal": horizontal,
            "vertical": vertical,
            "diagonal": diagonal,
            "horizontal_deviation": _known(math.degrees(math.sin(math.radians(horizontal))) * relative),
        },
        "source": lens.source,
        "basis": lens.basis,
        "generative": lens.generative,
        "notes": list(lens.notes),
    }


def _entry(answer: Answer) -> dict[str, Any]:
    return {
        **describe(answer.lens),
        "others": [describe(other) for other in answer.others],
        "silent": _reasons(answer.silent),
    }


def _reasons(silent: Sequence[Abstention]) -> list[dict[str, str]]:
    return [{"source": one.source, "reason": one.reason} for one in silent]


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _lens(entry: Any, place: str) -> LensEstimate:
    if not isinstance(entry, dict):
        raise InputError(f"{place} is not an object: {ADVICE}.")
    deviation = entry.get("deviation", dict.fromkeys(("fx", "fy", "cx", "cy"), 0.0))
    if not isinstance(deviation, dict):
        raise InputError(f'{place}: "deviation" is not an object: {ADVICE}.')
    width, height, fx, fy, cx, cy = (
        number(entry, key, place) for key in ("width", "height", "fx", "fy", "cx", "cy")
    )
    k1 = None if entry.get("k1") is None else number(entry, "k1", place)
    lens = LensEstimate(
        str(entry.get("source", "given")),
        (round(width), round(height)),
        (fx, fy),
        (_deviation(deviation, "fx", place), _deviation(deviation, "fy", place)),
        (cx, cy),
        (_deviation(deviation, "cx", place), _deviation(deviation, "cy", place)),
        str(entry.get("basis", "")),
        k1,
        None if k1 is None else _deviation(deviation, "k1", place),
        _sentences(entry.get("notes")),
        entry.get("generative") is True,
    )
    if not (width.is_integer() and height.is_integer() and is_size(width, height) and min(fx, fy) > 0):
        raise InputError(f"{place} has an impossible size or focal length: {ADVICE}.")
    if not is_possible(lens.intrinsics):
        raise InputError(f"{place} is an impossible lens: {ADVICE}.")
    return lens


def _deviation(entry: dict, name: str, place: str) -> float:
    """Infinite where it is not known."""
    if entry.get(name) is None:
        return math.inf
    found = number(entry, name, f'{place}, "deviation"')
    if found < 0:
        raise InputError(f'{place}: the deviation of "{name}" is negative: {ADVICE}.')
    return found


def _sentences(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, Sequence) and not isinstance(found, str) else ()
