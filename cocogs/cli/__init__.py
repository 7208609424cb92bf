"""The command line, one file per command group. Commands import what they need when they run."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, subcommand

from cocogs import __version__
from cocogs.cli.bench import Bench
from cocogs.cli.ending import end_quietly, lasting_output
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect
from cocogs.cli.messages import Commands, sentence
from cocogs.cli.render import Render
from cocogs.cli.train import Train
from cocogs.cli.view import View
from cocogs.errors import InputError

Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Export, subcommand("export")]
    | Annotated[View, subcommand("view")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Bench, subcommand("bench")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 for bad input; 130 after Ctrl-C. SIGTERM and SIGHUP raise SystemExit with 143 and
        129, a reader of our output that has gone with 141.
    """
    with lasting_output() as output:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command is None:
            return 0
        # Their files matter more than what they print; they continue without a reader.
        output.goes_on = isinstance(command, Train | Render | Bench)
        return run(command)


def parse(arguments: Sequence[str]) -> Commands | None:
    """The command with its options; None after --version. Raises SystemExit after --help and misuse."""
    if list(arguments) == ["--version"]:
        print(f"cocogs {__version__}")
        return None
    return tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="cocogs",
        description="Defocused photos in, a sharp and refocusable 3D scene out. --version tells the version.",
        args=arguments,
        config=(FlagCreatePairsOff,),
    )


def run(command: Commands) -> int:
    """Run a command, and print what went wrong in one sentence; returns the exit code."""
    # torch reads this once, on import: waiting threads that spin slow down all others on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        with end_quietly():
            code = command.run()
            sys.stdout.flush()  # a full disk is told below
            return code
    except KeyboardInterrupt:
        print("cocogs: stopped.", file=sys.stderr)
        return 130
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        message = sentence(error, command)
        if message is None:
            raise
        print(f"cocogs: error: {message}", file=sys.stderr)
        return 2
