"""A focus bracket as files: which photos it has, in which order, and what each was focused on."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cocogs.errors import InputError, counted
from cocogs.io import photos
from cocogs.optics.lens import focus_between
from cocogs.photo.written import results_in


@dataclass(frozen=True)
class Bracket:
    """Photos of one still scene from one place, focused at different distances, in the order of their names.

    Args:
        paths: of the slices.
        width, height: of each, px, upright.
        bytes_per_value: 1, or 2 where a slice has more than 8 bits per channel.
        reference: which of them keeps its place, its size and its colours, from 0.
        distances: what each was focused on, metres; rising or falling. None where that is not known.
        distances_from: where they are from: "EXIF", "given", or why there are none.
    """

    paths: tuple[Path, ...]
    width: int
    height: int
    bytes_per_value: int
    reference: int
    distances: tuple[float, ...] | None
    distances_from: str


def open_bracket(
    given: Sequence[Path], reference: str | None = None, focus: str | None = None, out: Path | None = None
) -> Bracket:
    """Find the slices and read their headers.

    Args:
        given: photos, or folders of photos. What `cocogs stack` wrote into a folder is left out.
        reference: name of a slice; None for the middle one.
        focus: "A:B", metres, of the first and the last slice, the others evenly in 1/z. None: as EXIF says.
        out: a file that is about to be written, and no slice.

    Raises:
        InputError: a file is missing, no picture, given twice, or of another size; there is only one; there
            is no such reference; `focus` is no pair of distances.
    """
    paths = _in_order(_files(given, out))
    if len(paths) < 2:
        what = "No photo is given"
        if given:
            what = f"{paths[0]} is one photo" if paths else f"{given[0]} holds no photo"
        raise InputError(
            f"{what}: a bracket has two or more, from one place, focused at different distances."
        )
    headers = [photos.read_header(path) for path in paths]
    size = headers[0].width, headers[0].height
    for path, header in zip(paths, headers, strict=True):
        if (header.width, header.height) != size:
            raise InputError(
                f"{path} is {header.width}x{header.height} px and {paths[0]} is {size[0]}x{size[1]}: "
                "give the photos of one bracket, not cropped, resized or turned."
            )
    if min(size) < SMALLEST:
        raise InputError(
            f"{paths[0]} is {size[0]}x{size[1]} px: a slice needs at least {SMALLEST} on each side."
        )
    distances, source = _distances([header.lens.focus_distance for header in headers], focus)
    deepest = max(header.bytes_per_value for header in headers)
    chosen = (len(paths) - 1) // 2 if reference is None else _find(reference, paths)
    return Bracket(tuple(paths), *size, deepest, chosen, distances, source)


SMALLEST = 32  # px
NEAREST, FARTHEST = 1e-4, 1e9  # metres


def _files(given: Sequence[Path], out: Path | None) -> list[Path]:
    found: list[Path] = []
    for place in given:
        if place.is_dir():
            paths = [place / name for name in photos.list_photos(place)]
            results = set().union(*(results_in(folder) for folder in {path.parent for path in paths}))
            found += [path for path in paths if path not in results]
        elif place.exists():
            found.append(place)
        else:
            raise InputError(f"{place} does not exist: give the photos of a bracket, or a folder of them.")
    seen: dict[Path, Path] = {}
    for path in found:
        if out is not None and _same(path, out):
            raise InputError(f"`out` is {path}, one of the slices: give another name.")
        if (real := path.resolve()) in seen:
            raise InputError(f"{path} is given twice: each slice counts once.")
        seen[real] = path
    return found


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _in_order(paths: Sequence[Path]) -> list[Path]:
    """By name, numbers in it as numbers: IMG_9 before IMG_10."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", str(path))
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]

    return sorted(paths, key=lambda path: (key(path), str(path)))


def _find(name: str, paths: Sequence[Path]) -> int:
    fits = [index for index, path in enumerate(paths) if name in (path.name, str(path))]
    if len(fits) != 1:
        why = "names none of the slices" if not fits else "names several slices: give its path"
        raise InputError(
            f"`reference` {why}: {name} (the first is {paths[0].name}, the last {paths[-1].name})."
        )
    return fits[0]


def _distances(exif: Sequence[float | None], focus: str | None) -> tuple[tuple[float, ...] | None, str]:
    """What each slice was focused on, and who says so."""
    count = len(exif)
    if focus is not None:
        first, last = _read_focus(focus)
        return tuple(focus_between(first, last, k / (count - 1)) for k in range(count)), "given"
    known = [distance for distance in exif if distance is not None]
    if len(known) < count:
        if not known:
            return None, "EXIF tells no focus distances"
        return None, f"EXIF tells the focus distances of {len(known)} of {counted(count, 'slice')}"
    steps = [after - before for before, after in pairwise(known)]
    if all(step > 0 for step in steps) or all(step < 0 for step in steps):
        return tuple(known), "EXIF"
    return None, "EXIF's focus distances neither rise nor fall from slice to slice"


def _read_focus(text: str) -> tuple[float, float]:
    """Metres of "0.3:1.2", or "0.3m:inf"."""
    words = [word.strip().lower().removesuffix("m") for word in text.split(":")]
    try:
        ends = [float(word) for word in words]
    except ValueError:
        ends = []
    fits = len(ends) == 2 and all(NEAREST <= end <= FARTHEST or end == math.inf for end in ends)
    if not fits or abs(1 / ends[0] - 1 / ends[1]) < 1e-6 * (1 / ends[0] + 1 / ends[1]):
        raise InputError(
            f"`focus` must be the distances in focus in the first and in the last slice in metres, such as "
            f"0.3:1.2, not {text!r:.40}."
        )
    return ends[0], ends[1]
