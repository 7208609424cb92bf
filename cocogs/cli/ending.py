"""How a command ends when it is told to, or when nobody reads its output any more."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cocogs.signals import handled

GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; the terminal was closed
BROKEN_PIPE = 128 + 13  # exit code of programs whose reader has gone


@contextmanager
def end_quietly() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP end the command through its `finally` blocks, with code 128 + signal.

    A signal that is ignored stays ignored (nohup). Training has handlers of its own while it runs.
    """
    # On import, pycolmap installs a handler of SIGTERM that prints a stack trace. Ours comes after it.
    import pycolmap  # noqa: F401  # pyright: ignore[reportUnusedImport]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)  # the second one ends at once
        raise SystemExit(128 + number)

    with handled(end):
        yield


class Output:
    """A standard stream that does not fail when its reader has gone.

    Args:
        stream: what it writes to.
        goes_on: whether the command continues without a reader; else it ends with `BROKEN_PIPE`.
    """

    def __init__(self, stream: Any, goes_on: bool) -> None:
        self._stream, self.goes_on = stream, goes_on

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            if "\n" in text:  # who watches a pipe sees every line at once
                self._stream.flush()
        except OSError as error:
            self._reader_gone(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._reader_gone(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _reader_gone(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        # What is still in the stream's buffer, and all that follows, goes nowhere and fails no more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not self.goes_on:
            raise SystemExit(BROKEN_PIPE)


@contextmanager
def lasting_output() -> Iterator[Output]:
    """Replace sys.stdout and sys.stderr by `Output`s; yields that of stdout."""
    before = sys.stdout, sys.stderr
    output, errors = Output(sys.stdout, goes_on=False), Output(sys.stderr, goes_on=True)
    sys.stdout, sys.stderr = output, errors  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield output
        output.flush()
    finally:
        with suppress(SystemExit, OSError):  # what it would say is on its way already
            output.flush()
            errors.flush()
        sys.stdout, sys.stderr = before
