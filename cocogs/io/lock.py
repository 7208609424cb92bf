"""One process at a time in a folder that results are written to."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io.atomic import cannot_write


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make `folder` if need be and keep every other cocogs out of it; however this one ends, that ends too.

    Raises:
        InputError: another one is at work there, or the folder cannot be made.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"Another cocogs is at work in {folder}: wait until it ends, or give another --out."
        ) from error
    except OSError:  # a file system that knows no locks
        pass
