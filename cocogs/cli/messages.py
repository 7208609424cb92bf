"""From an error to the one sentence that the user reads."""

import re
from dataclasses import fields
from pathlib import Path

from cocogs.cli.bench import Bench
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect
from cocogs.cli.render import Render
from cocogs.cli.train import Train
from cocogs.cli.view import View
from cocogs.errors import InputError

Commands = Train | Eval | Render | Export | View | Inspect | Bench

QUOTED = re.compile(r"`([a-zA-Z_][a-zA-Z_0-9.]*)(=[^`]*)?`")
"""A parameter in backticks, perhaps with a value. What has spaces in it, such as `cocogs train`, is none."""
NAMES = {"run_folder": "RUN", "data": "DATA", "suite": "SUITE"}
"""How the help texts name the positional arguments; those that are absent here are not translated."""
POSITIONAL = {*NAMES, "scene", "file"}


def sentence(error: Exception, command: Commands) -> str | None:
    """What went wrong in the user's world and what helps; None for a bug of ours."""
    if isinstance(error, InputError):
        return with_options(str(error), command)
    if "CUDA out of memory" in str(error):  # torch's own words, up to the advice on its allocator
        numbers = ". ".join(str(error).split(". ")[:3])
        return (
            f"{numbers}. Give a larger --downscale or a smaller --max-gaussians; what was saved is kept, and "
            "--resume continues it."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "There is not enough memory: give a larger --downscale or a smaller --max-gaussians."
    if isinstance(error, OSError):
        reason = error.strerror or error
        place = error.filename or place_of(command)
        return f"{place} cannot be read or written ({reason}): check the disk and the permissions."
    return None


def with_options(message: str, command: Commands) -> str:
    """A library's message, with options in the place of parameters in backticks.

    `test_every` becomes --test-every, and `downscale=2` becomes --downscale 2: if the command has this option
    or, as every run was made by it, `cocogs train` has. Other single names lose their backticks.
    """
    own, trainings = ({field.name for field in fields(kind)} for kind in (type(command), Train))

    def translated(match: re.Match[str]) -> str:
        name, value = match[1], match[2] or ""
        if name in NAMES and name in own:
            return NAMES[name] + value
        if name in POSITIONAL or name not in own | trainings:
            return name + value
        option = f"--{name.replace('_', '-')}"
        return option if value in ("", "=True") else f"{option} {value.removeprefix('=')}"

    return QUOTED.sub(translated, message)


def place_of(command: Commands) -> Path:
    """The file or folder that a command works on: the best guess where the system does not name the file."""
    if isinstance(command, View):
        return command.scene
    if isinstance(command, Inspect):
        return command.out or command.data
    return command.out if isinstance(command, Train | Render | Bench) else command.run_folder
