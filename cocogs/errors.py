"""The one error that a user is meant to read, the check of a number that raises it, words for messages."""

import importlib
import math
from collections.abc import Sequence
from typing import Any


class InputError(Exception):
    """Something given to cocogs cannot be used: a file, a folder, a number, a full disk.

    The message is one clear sentence that names the file or the parameter and says what to do. Library code
    writes a parameter in backticks (`test_every`); the command line turns that into the option
    (--test-every), prints the sentence on stderr without a traceback, and exits with code 2.
    """


def optional_package(name: str, advice: str) -> Any:
    """A package that not every user needs.

    Args:
        advice: what needs it, and how to install it.

    Raises:
        InputError: it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(advice) from error


def check_number(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    whole: bool = False,
    infinite: bool = False,
    example: str = "",
) -> None:
    """Check that a number lies in its range. None passes: the option was not given.

    Args:
        name: of the parameter, as in Python.
        least, most: the range, bounds included; None = unbounded.
        above: a lower bound that is itself excluded.
        whole: whether it must be an integer.
        infinite: whether infinity may pass; NaN never does.
        example: a good value, to show in the message.

    Raises:
        InputError: "`seed` must be a whole number of 0 or more, not -1."
    """
    if value is None:
        return
    try:
        float(value)
    except OverflowError:  # a whole number of more than 308 digits
        value = math.inf if value > 0 else -math.inf
    fits = not math.isnan(value) and (infinite or math.isfinite(value))
    fits = fits and (least is None or value >= least) and (most is None or value <= most)
    fits = fits and (above is None or value > above) and (not whole or value == int(value))
    if not fits:
        kind = "a whole number" if whole else "a number" if infinite else "a finite number"
        hint = f", such as {example}" if example else ""
        raise InputError(f"`{name}` must be {kind}{_range(least, above, most)}{hint}, not {_short(value)}.")


def reason_of(error: BaseException) -> str:
    """What an error of a library says, in brief: the first line of it, or its type where it says nothing."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = words.strip().splitlines()
    return lines[0][:80] if lines else type(error).__name__


def counted(number: int, noun: str) -> str:
    """1 photo, 2 photos."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name or "''" for name in names[:most]) + more


def _range(least: float | None, above: float | None, most: float | None) -> str:
    """A range in words, with a space before them; empty where there are no bounds."""
    if above is not None:
        return f" above {_short(above)}" + ("" if most is None else f" and up to {_short(most)}")
    if least is not None and most is not None:
        return f" from {_short(least)} to {_short(most)}"
    if least is not None:
        return f" of {_short(least)} or more"
    return "" if most is None else f" up to {_short(most)}"


def _short(value: float) -> str:
    is_whole = math.isfinite(value) and abs(value) < 1e21 and value == int(value)
    return str(int(value)) if is_whole else f"{value:g}"
