"""Which photos are kept for testing."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io import folders
from cocogs.io.source import Source


def names_for_testing(data: Path, source: Source, test_every: int | None, test: str | None) -> frozenset[str]:
    """Names of the test photos: by `test`, else `test_every`, else hold=N, else the dataset, else none.

    All faces of a panorama are kept, or none: they show the scene from one place.

    Raises:
        InputError: fewer than two photos would be left to train on, or a name is not that of a photo.
    """
    names = [shot.name for shot in source.shots]
    photos = {shot.name: shot.photo for shot in source.shots}
    if test is not None:
        return enough_left(named(photos, test, data), photos, f"`test` {test}")
    hold = folders.read_hold(data)
    every = hold if test_every is None else test_every
    if every is not None:
        kept = set(list(dict.fromkeys(photos.values()))[::every])
        tests = frozenset(name for name in names if photos[name] in kept)
        reason = f"`test_every` {test_every}" if test_every is not None else str(data / f"hold={hold}")
    else:
        tests = (source.test_names or frozenset()) & frozenset(names)
        reason = f"the split in {data}"
    return enough_left(tests, photos, reason)


def enough_left(tests: frozenset[str], photos: Mapping[str, str], reason: str) -> frozenset[str]:
    """The test photos, unless they leave too few. One photo to train on tells no depth."""
    left = {photo for name, photo in photos.items() if name not in tests}
    if len(left) < 2:
        few = "a single photo" if left else "no photo"
        raise InputError(f"{reason} leaves {few} to train on: keep fewer photos for testing.")
    return tests


def named(photos: Mapping[str, str], test: str, data: Path) -> frozenset[str]:
    """The photos that `test` names: names or patterns, with commas between; with a panorama all its faces.

    Args:
        photos: for each photo or face its name, and that of the photo or panorama it is of.
    """
    names = sorted({*photos, *photos.values()})
    found: set[str] = set()
    for pattern in map(str.strip, test.split(",")):
        # A whole name first: editors number copies as a[1].jpg, which as a pattern means a1.jpg.
        matching = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not matching:
            raise InputError(
                f"`test` {pattern}: {data} has no photo of this name that has a camera: give names "
                "of its photos, or * for any letters."
            )
        found.update(photos.get(name, name) for name in matching)
    return frozenset(name for name, photo in photos.items() if photo in found)
