"""How a command ends when it is told to, or when nobody reads its output any more."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cocogs.errors import InputError
from cocogs.signals import handled

OUTPUT, ERRORS = 1, 2  # numbers of the standard streams' files
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
    """A standard stream that does not fail when its reader has gone, nor at names that it cannot encode.

    Args:
        stream: what it writes to; None where the program was started without it (`>&-`).
        number: of its file: 1 or 2.
        goes_on: whether the command continues without a reader; else it ends with `BROKEN_PIPE`.
    """

    def __init__(self, stream: Any, number: int, goes_on: bool) -> None:
        self._closed = stream is None
        self._stream = open(number, "w", closefd=False) if stream is None else stream  # noqa: SIM115
        self._number, self.goes_on = number, goes_on

    def write(self, text: str) -> int:
        if self._closed and not self.goes_on:
            raise SystemExit(BROKEN_PIPE)
        try:
            self._write(text)
            if "\n" in text:  # who watches a pipe sees every line at once
                self._stream.flush()
        except OSError as error:
            self._fails(error)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # é in ASCII, or a file's name that is no text in UTF-8
            encoding = self._stream.encoding
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fails(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fails(self, error: OSError) -> None:
        # What is still in the stream's buffer, and all that follows, goes nowhere and fails no more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._number == ERRORS:
            return  # there is no place left to say so
        if error.errno not in GONE:
            raise InputError(
                f"The standard output cannot be written ({error.strerror}): free space, or send it to "
                "another file."
            ) from error
        if not self.goes_on:
            raise SystemExit(BROKEN_PIPE)


@contextmanager
def lasting_output() -> Iterator[Output]:
    """Replace sys.stdout and sys.stderr by `Output`s; yields that of stdout."""
    _fill_closed_numbers()
    before = sys.stdout, sys.stderr
    output, errors = Output(sys.stdout, OUTPUT, goes_on=False), Output(sys.stderr, ERRORS, goes_on=True)
    sys.stdout, sys.stderr = output, errors  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield output
        output.flush()
    finally:
        with suppress(SystemExit, InputError):  # what it would say is on its way already
            output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_numbers() -> None:
    """Give the numbers of closed standard streams to the null device. Else the next file that is opened gets
    one of them, and libraries print into it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= ERRORS:
        os.set_inheritable(number, True)
    os.close(number)
