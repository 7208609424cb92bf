"""The command line, one file per command group. Commands import what they need when they run."""

import os
import sys
from collections.abc import Sequence

from cocogs.cli.ending import Output, end_quietly, lasting_output
from cocogs.errors import InputError

STOPPED = 130  # exit code after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 for bad input; 130 after Ctrl-C. SIGTERM and SIGHUP raise SystemExit with 143 and
        129, a reader of our output that has gone with 141.
    """
    with lasting_output() as output:
        return run(sys.argv[1:] if arguments is None else arguments, output)


def run(arguments: Sequence[str], output: Output) -> int:
    """Run a command, and print what went wrong in one sentence; returns the exit code."""
    # torch reads this once, on import: waiting threads that spin slow down all others on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    command = None
    try:
        # Imported here, where Ctrl-C ends in one line: this takes most of a second.
        from cocogs.cli.commands import GOES_ON, parse

        if (command := parse(arguments)) is None:
            return 0
        output.goes_on = isinstance(command, GOES_ON)
        with end_quietly():
            code = command.run()
            sys.stdout.flush()  # a full disk is told below
            return code
    except KeyboardInterrupt:
        return _stopped()
    except (InputError, OSError, MemoryError, RuntimeError, ImportError) as error:
        if _is_ctrl_c(error):
            return _stopped()
        from cocogs.cli.messages import sentence

        if (message := sentence(error, command)) is None:
            raise
        print(f"cocogs: error: {message}", file=sys.stderr)
        return 2


def _stopped() -> int:
    print("cocogs: stopped.", file=sys.stderr)
    return STOPPED


def _is_ctrl_c(error: BaseException | None) -> bool:
    """Whether a library made another error of a KeyboardInterrupt, as compiled modules do on import."""
    if isinstance(error, InputError | OSError):  # the trouble came after the Ctrl-C, while the command ended
        return False
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
