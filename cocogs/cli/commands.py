"""The commands, and the one that a person typed."""

import re
import sys
from collections.abc import Sequence

import tyro
from tyro.conf import FlagCreatePairsOff

from cocogs import __version__
from cocogs.cli.bench import Bench, BenchRefocus
from cocogs.cli.calibrate import Calibrate, CalibratePhoto
from cocogs.cli.demo import Demo
from cocogs.cli.edit import Edit
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect
from cocogs.cli.mesh import Mesh
from cocogs.cli.refocus import Refocus
from cocogs.cli.render import Render
from cocogs.cli.simulate import Simulate
from cocogs.cli.stack import Stack
from cocogs.cli.train import Train
from cocogs.cli.view import View

Command = (
    Demo
    | Train
    | Eval
    | Render
    | Edit
    | Refocus
    | Stack
    | Simulate
    | Export
    | Mesh
    | View
    | Inspect
    | Bench
    | Calibrate
)
"""Each is called as its class, in small letters."""
GOES_ON = Train | Render | Simulate | Bench | Demo
"""Their files matter more than what they print: they continue when nobody reads their output any more."""


SECOND_WORDS = {("bench", "refocus"): BenchRefocus, ("calibrate", "photo"): CalibratePhoto}
"""Commands of two words, which have options of their own."""


def parse(arguments: Sequence[str]) -> Command | BenchRefocus | CalibratePhoto | None:
    """The command with its options; None after --version. Raises SystemExit after --help and misuse."""
    if list(arguments) == ["--version"]:
        print(f"cocogs {__version__}")
        return None
    refuse_empty(arguments)
    arguments = with_minus(arguments)
    if kind := SECOND_WORDS.get(tuple(arguments[:2])):  # pyright: ignore[reportArgumentType]
        prog = f"cocogs {' '.join(arguments[:2])}"
        return tyro.cli(kind, prog=prog, args=arguments[2:], config=(FlagCreatePairsOff,))
    return tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="cocogs",
        description="Defocused photos in, a sharp and refocusable 3D scene out. --version tells the version.",
        args=arguments,
        config=(FlagCreatePairsOff,),
    )


def with_minus(arguments: Sequence[str]) -> list[str]:
    """The arguments, with values such as -0.2,0,0 joined to their options, for argparse."""
    joined: list[str] = []
    for word in arguments:
        if joined and re.fullmatch(r"--[a-z][a-z-]*", joined[-1]) and re.match(r"-[\d.][^,]*,", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raises SystemExit for an argument without a letter, as an unset variable of a script leaves it: a path
    of no letters would mean the present folder."""
    for before, word in zip(("the command", *arguments), arguments, strict=False):
        option, equals, value = word.partition("=")
        if word.strip() == "" or (word.startswith("--") and equals and value.strip() == ""):
            place = option if equals else before if before.startswith("--") else "an argument"
            print(
                f"cocogs: error: The value of {place} is empty: give one, or leave it out.", file=sys.stderr
            )
            raise SystemExit(2)
