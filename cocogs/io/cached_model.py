"""A cached model beside a stamp of what it was made from.

The work is done in a hidden folder in the cache. When it is finished, the model takes its place beside its
stamp, and the next run reads it from there. What an interrupted run leaves is taken up by the next run that
wants the same model, and removed by one that wants another.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pycolmap

from cocogs.errors import InputError
from cocogs.io import colmap
from cocogs.io.atomic import NoRoom, cannot_write, write_text
from cocogs.io.json_file import read_own_json
from cocogs.io.lock import alone_in
from cocogs.io.source import Source

_WORK, _STAMP = ".work", "stamp.json"
# Raise it when the same photos give another model than before, or the work folder looks different.
_VERSION = 4


@contextmanager
def work_folder(cache: Path, stamp: dict) -> Iterator[Path]:
    """A hidden folder in the cache. It stays when the work is interrupted, as by Ctrl-C or a crash.

    It is removed when the work has ended, and after an error, which the photos or the disk may be to blame
    for; not where the disk is full.

    Args:
        stamp: what the work depends on. The folder of an interrupted run with the same stamp is yielded as
            that run left it; one with another stamp is emptied.

    Raises:
        InputError: the cache cannot be written.
    """
    work = cache / _WORK
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with alone_in(cache):
            if read_own_json(work / _STAMP) != _as_read(stamp):
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                write_text(work / _STAMP, json.dumps(stamp))
            try:
                yield work
            except NoRoom:
                raise
            except Exception:
                shutil.rmtree(work, ignore_errors=True)
                raise
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise cannot_write(cache, error) from error


def stamp(photos: Mapping[str, Path], masks: Mapping[str, Path], seed: int) -> dict:
    """What a cached model depends on: the files of the photos and masks, the seed, the program."""
    return {
        "version": _VERSION,
        "pycolmap": pycolmap.__version__,
        "seed": seed,
        "photos": _files(photos),
        "masks": _files(masks),
    }


def _files(paths: Mapping[str, Path]) -> list:
    status = [(name, path.stat()) for name, path in paths.items()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in status]


def read(model: Path, stamp: dict) -> Source | None:
    """The cached model; None where there is none, it was made from other things, or it is damaged."""
    try:
        same = read_own_json(model / _STAMP) == _as_read(stamp)
        return colmap.read_model(model) if same else None
    except InputError:
        return None


def _as_read(stamp: dict) -> object:
    """The stamp as it comes out of a file."""
    return json.loads(json.dumps(stamp))


def read_notes(model: Path) -> dict:
    """What `save` was given as `notes`; empty where the file is missing or damaged."""
    notes = read_own_json(model / "notes.json")
    kinds = {"apart": list, "zoomed": dict, "focal_length": int}
    fits = isinstance(notes, dict) and all(isinstance(notes.get(name), kind) for name, kind in kinds.items())
    return notes if fits else {}


def save(
    found: pycolmap.Reconstruction,
    names: Mapping[str, str],
    model: Path,
    stamp: dict,
    work: Path,
    notes: dict,
) -> None:
    """Put a finished model in its place.

    Args:
        names: the photos' names by their names in `found`.
        model: folder that is replaced.
        stamp: what the model was made from.
        work: the work folder, on the same disk.
        notes: what else a later run wants to know.
    """
    for image in found.images.values():
        image.name = names[image.name]
    result = work / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    found.write_binary(result)
    (result / _STAMP).write_text(json.dumps(stamp))
    (result / "notes.json").write_text(json.dumps(notes))
    shutil.rmtree(model, ignore_errors=True)
    result.rename(model)
