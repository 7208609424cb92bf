"""One process at a time in a folder that results are written to."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from cocogs.errors import InputError
from cocogs.io.atomic import cannot_write, remove_leftovers

NAME = ".cocogs.lock"
TRIES = 10  # another process may remove the folder or its lock in the moment in which we open them
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # a file system that knows none


class Occupied(InputError):
    """Another process is at work in a folder."""


@contextmanager
def alone_in(folder: Path, name: str = NAME, advice: str = "give another `out`") -> Iterator[None]:
    """Make `folder` if need be and keep every other cocogs out of it.

    However this process ends, the lock ends with it; its file is removed, except by a process that is killed.
    Temporary files of killed processes are removed too.

    Args:
        name: of the lock's file. Processes with another name are not kept out: they write other files.
        advice: what the user can do besides waiting.

    Raises:
        Occupied: another one is at work there.
        InputError: the folder cannot be made or written.
    """
    made = not folder.exists()
    try:
        lock = _acquired(folder / name)
    except Timeout as error:
        raise Occupied(f"Another cocogs is at work in {folder}: wait until it ends, or {advice}.") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        with suppress(OSError):
            remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):
            # Before the release: a process that waits for this file then finds its name gone and starts over
            # with a new file, so that no two processes hold different files of one name.
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            lock.release()
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _acquired(file: Path) -> BaseFileLock:
    """The lock that a file in a folder stands for.

    Raises:
        Timeout: another process holds it.
        OSError: the folder cannot be made or written.
    """
    kind: type[BaseFileLock] = FileLock
    for attempt in range(TRIES):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = kind(file, timeout=0.1, poll_interval=0.02)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a file system knows no locks is no news for the user
                lock.acquire()
            return lock
        except FileNotFoundError:  # whoever made the folder has just removed it
            if attempt == TRIES - 1:
                raise
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in NO_LOCKS or kind is SoftFileLock:
                raise
            kind = SoftFileLock  # a file whose existence is the lock
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes again and again", str(file.parent))
