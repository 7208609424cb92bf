"""A library's words for a person at the command line: options in the place of parameters."""

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

QUOTED = re.compile(r"`([a-zA-Z_][a-zA-Z_0-9.]*)(=[^`]*)?`")
"""A parameter in backticks, perhaps with a value. What has spaces in it, such as `cocogs train`, is none."""
NAMES = {"run_folder": "RUN", "data": "DATA", "suite": "SUITE"}
"""How the help texts name the positional arguments; those that are absent here are not translated."""
POSITIONAL = {*NAMES, "scene", "file"}


def with_options(message: str, command: Any) -> str:
    """A library's message, with options in the place of parameters in backticks.

    `test_every` becomes --test-every, and `downscale=2` becomes --downscale 2: if the command has this option
    or, as every run was made by it, `cocogs train` has. Other single names lose their backticks.
    """
    from cocogs.cli.train import Train

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


def speaker(command: Any) -> Callable[[str], None]:
    """What prints a library's lines for the user of a command."""
    return lambda line: print(with_options(line, command))
