"""Lengths as people write them: 0.3 (scene units), 20cm, 0.2m, 5mm."""

import math
import re
from pathlib import Path

from cocogs.errors import InputError

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
LENGTH = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(mm|cm|m)?", re.IGNORECASE)


def parse_length(name: str, text: str, metres: float | None, place: Path) -> float:
    """A length in scene units.

    Args:
        name: of the parameter, for messages.
        metres: in a scene unit; None where that is not known.
        place: the scene, for messages.

    Raises:
        InputError: no such text, or metres where nobody knows how long a scene unit is.
    """
    match = LENGTH.fullmatch(text.strip())
    if match is None or not math.isfinite(float(match[1])):
        raise InputError(f"`{name}` takes lengths such as 0.3 (scene units) or 20cm, not {text!r:.40}.")
    value, unit = float(match[1]), match[2]
    if unit is None:
        return value
    if metres is None:
        raise InputError(
            f"How long a scene unit of {place} is in metres is not known: give `{name}` in scene units "
            "(without a unit), or say `metres`, the metres in a scene unit."
        )
    return value * UNITS[unit.lower()] / metres


def parse_lengths(name: str, text: str, count: int, metres: float | None, place: Path) -> list[float]:
    """`count` lengths with commas between them, in scene units. Raises InputError as `parse_length`."""
    parts = text.split(",")
    if len(parts) != count:
        raise InputError(f"`{name}` takes {count} numbers with commas between them, not {text!r:.60}.")
    return [parse_length(name, part, metres, place) for part in parts]
