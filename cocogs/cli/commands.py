"""The commands, and the one that a person typed."""

import re
from collections.abc import Sequence

import tyro
from tyro.conf import FlagCreatePairsOff

from cocogs import __version__
from cocogs.cli.bench import Bench
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect
from cocogs.cli.render import Render
from cocogs.cli.train import Train
from cocogs.cli.view import View
from cocogs.errors import InputError

Command = Train | Eval | Render | Export | View | Inspect | Bench
"""Each is called as its class, in small letters."""
GOES_ON = Train | Render | Bench
"""Their files matter more than what they print: they continue when nobody reads their output any more."""


def parse(arguments: Sequence[str]) -> Command | None:
    """The command with its options; None after --version.

    Raises:
        SystemExit: after --help and misuse.
        InputError: an argument is empty.
    """
    for before, argument in zip(["cocogs", *arguments], arguments, strict=False):
        if not argument or re.fullmatch(r"--[a-z-]+=", argument):
            raise InputError(
                f"What follows {argument or before} is empty, as where a variable of the shell is not set: "
                "give a value."
            )
    if list(arguments) == ["--version"]:
        print(f"cocogs {__version__}")
        return None
    return tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="cocogs",
        description="Defocused photos in, a sharp and refocusable 3D scene out.",
        args=arguments,
        config=(FlagCreatePairsOff,),
    )
