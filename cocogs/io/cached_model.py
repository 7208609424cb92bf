"""A cached model beside a stamp of what it was made from.

The work is done in a hidden folder in the cache. When it is finished, the model takes its place beside its
stamp. The next run reads it from there, and a killed run leaves nothing half-made.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pycolmap

from cocogs.errors import InputError
from cocogs.io import colmap
from cocogs.io.atomic import cannot_write
from cocogs.io.json_file import read_json
from cocogs.io.lock import alone_in
from cocogs.io.source import Source

_WORK = ".work-"
# Raise it when the same photos give another model than before.
_VERSION = 2


@contextmanager
def work_folder(cache: Path) -> Iterator[Path]:
    """A hidden folder in the cache, removed when the work has ended, with or without success.

    Raises:
        InputError: the cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with alone_in(cache):
            for left_by_a_killed_run in cache.glob(f"{_WORK}*"):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=_WORK) as work:
                yield Path(work)
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
        same = read_json(model / "stamp.json") == stamp
        return colmap.read_model(model) if same else None
    except InputError:
        return None


def read_notes(model: Path) -> dict:
    """What `save` was given as `notes`; empty where the file is missing or damaged."""
    try:
        notes = read_json(model / "notes.json")
    except InputError:
        return {}
    return notes if isinstance(notes, dict) else {}


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
    result.mkdir()
    found.write_binary(result)
    (result / "stamp.json").write_text(json.dumps(stamp))
    (result / "notes.json").write_text(json.dumps(notes))
    shutil.rmtree(model, ignore_errors=True)
    result.rename(model)
