"""Files that are either whole or absent: write to a temporary name, then rename."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cocogs.errors import InputError

TEMPORARY = re.compile(r"\.cocogs-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{12}(\..*)?")
ABANDONED = 24 * 3600  # seconds; a temporary file that nobody wrote to for so long is left over
_cleaned: set[Path] = set()  # folders whose leftovers this process has removed
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EISDIR)  # some file systems


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); on success it takes the name `path`.

    When the body raises, the old file stays as it was and the temporary one is removed. The new file has
    reached the disk before it gets its name, and the name when the call returns: after a power failure one of
    the two files is there, whole. The first call for a folder removes what killed processes left there.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    with scratch(path) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, which need not be there, for what does not fit into memory; it is
    removed at the end, or by the next call for this folder after the process was killed.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
    """
    temporary = _make_temporary(path)
    try:
        yield temporary
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """The same with a folder."""
    temporary = _make_temporary(path, is_folder=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_temporary(path: Path, is_folder: bool = False) -> Path:
    """An empty file or folder of a new name beside `path`. The first call for a folder removes leftovers
    there."""
    name = f".cocogs-{_host()}-{os.getpid()}-{secrets.token_hex(6)}{path.suffix}"
    temporary = path.with_name(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (folder := path.parent.absolute()) not in _cleaned:  # once: a cache holds thousands of files
            remove_leftovers(folder)
            _cleaned.add(folder)
        if is_folder:
            temporary.mkdir()
            return temporary
        # Not tempfile's files, which are private to the user: the umask decides who may read results.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise cannot_write(path, error) from error
    return temporary


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text in UTF-8. Names of files in it, which may be any bytes, are written with
    backslashes where they are no text.

    Raises:
        InputError: as `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` that killed processes have left.

    A file is left over if its process on this computer has ended, or if it is old: what other computers do
    in a shared folder cannot be seen from here.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if (match := TEMPORARY.fullmatch(entry.name)) and _is_left_over(entry, match):
                with suppress(OSError):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(
                        entry.path
                    )


def _is_left_over(entry: os.DirEntry, match: re.Match[str]) -> bool:
    try:
        if time.time() - entry.stat().st_mtime > ABANDONED:
            return True
        if match["host"] != _host() or os.name == "nt":  # where signal 0 is Ctrl-C
            return False
        os.kill(int(match["process"]), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # just removed; or somebody else's process
        return False
    return False


def _host() -> str:
    """Eight hexadecimal digits that stand for this computer."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        if handle is not None:
            os.close(handle)


class NoRoom(InputError):
    """The disk is nearly full. What was done before is kept, and the same command goes on."""


def cannot_write(path: Path, error: OSError) -> InputError:
    """What to tell the user."""
    reason = error.strerror or str(error)
    return InputError(f"{path} cannot be written ({reason}): free space or choose a writable folder.")
