"""From an error to the one sentence that the user reads."""

from dataclasses import fields
from typing import Any

from cocogs.cli.words import with_options
from cocogs.errors import InputError

PLACES = ("out", "run_folder", "scene", "data")
"""What commands call the file or folder that they work on; the first of these that a command has."""


def sentence(error: Exception, command: Any) -> str | None:
    """What went wrong in the user's world and what helps; None for a bug of ours.

    Args:
        command: one of `cocogs.cli.commands`; None where there is none yet.
    """
    if isinstance(error, InputError):
        return str(error) if command is None else with_options(str(error), command)
    if "CUDA out of memory" in str(error):  # torch's own words, up to the advice on its allocator
        numbers = ". ".join(str(error).split(". ")[:3])
        return f"{numbers}. {_less_memory(command)}."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"There is not enough memory. {_less_memory(command)}."
    if isinstance(error, OSError) and command is not None:
        reason = error.strerror or error
        place = error.filename or place_of(command)
        return f"{place} cannot be read or written ({reason}): check the disk and the permissions."
    return None


def _less_memory(command: Any) -> str:
    """What helps a command that needs more memory than there is, by the options that it has."""
    options = _options(command)
    if "resume" in options:
        return (
            "Give a larger --downscale or a smaller --max-gaussians to a new run; what this one saved is "
            "kept, and --resume continues it where there is more memory"
        )
    if "max_gaussians" in options:
        return "Give a larger --downscale or a smaller --max-gaussians"
    if "downscale" in options:
        return "Give a larger --downscale"
    if "size" in options:
        return "Give a smaller --size, or end other programs"
    return "End other programs, or train the scene with a smaller --max-gaussians"


def place_of(command: Any) -> object:
    """The file or folder that a command works on: the best guess where the system does not name the file."""
    options = _options(command)
    places = (getattr(command, name) for name in PLACES if name in options)
    return next((place for place in places if place is not None), "a file")


def _options(command: Any) -> set[str]:
    return set() if command is None else {field.name for field in fields(command)}
