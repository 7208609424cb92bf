"""Bundler's bundle.out with list.txt -> Source. RealityScan, Metashape, PhotoScan and VisualSFM write it too.

Cameras look along -z, x is right and y up; the origin is the picture's middle (Bundler's manual, "Output
format"). The file does not tell the pictures' sizes; the photos do.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cocogs.errors import InputError
from cocogs.io.folders import stored_sizes
from cocogs.io.source import Intrinsics, Shot, Source

_HEAD = b"# Bundle file v0."
_LIST = "list.txt"


def find(data: Path) -> Path | None:
    """The first .out file in a folder, or in its bundle/ or bundler/, that begins as Bundler's do."""
    places = [data, data / "bundle", data / "bundler"]
    files = [file for place in places for file in sorted(place.glob("*.out"))]
    return next((file for file in files if file.is_file() and _begins_right(file)), None)


def _begins_right(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(_HEAD)) == _HEAD


def read(path: Path, data: Path) -> Source:
    """The placed cameras and the points."""
    lines = path.read_text().splitlines()[1:]
    numbers = _numbers(lines)
    cameras, points = int(next(numbers)), int(next(numbers))
    table = np.array([[next(numbers) for _ in range(15)] for _ in range(cameras)])
    names = _names(path, data, cameras)
    placed = [(name, row) for name, row in zip(names, table, strict=True) if row[0] > 0]
    sizes = stored_sizes(data, [name for name, _ in placed])
    shots = []
    for name, row in sorted(placed, key=lambda pair: pair[0]):
        width, height = sizes[name]
        lens = Intrinsics("RADIAL", width, height, (row[0], width / 2, height / 2, row[1], row[2]))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = row[3:12].reshape(3, 3), row[12:]
        pose[1:3] *= -1  # to OpenCV's axes
        shots.append(Shot(name, lens, torch.from_numpy(pose), upright=False))
    places, colors = [], []
    for _ in range(points):
        places.append([next(numbers) for _ in range(3)])
        colors.append([next(numbers) for _ in range(3)])
        for _ in range(4 * int(next(numbers))):
            next(numbers)
    if not places:
        return Source(shots)
    color = torch.tensor(colors, dtype=torch.float32) / 255
    return Source(shots, torch.tensor(places, dtype=torch.float64), color.clamp(0, 1))


def _numbers(lines: list[str]) -> Iterator[float]:
    for line in lines:
        yield from map(float, line.split())
    raise ValueError("it ends too early")


def _names(path: Path, data: Path, count: int) -> list[str]:
    """The photos in the cameras' order: each line of list.txt is a photo and perhaps its focal length."""
    files = [folder / _LIST for folder in (path.parent, data)]
    files += [path.with_suffix(".list.txt"), path.with_suffix(".txt")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(f"{path} does not name its photos: put Bundler's {_LIST} beside it.")
    lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(lines) != count:
        raise InputError(
            f"{file} names {len(lines)} photos and {path} has {count} cameras: export both again."
        )
    return [_name(line) for line in lines]


def _name(line: str) -> str:
    """Without the two numbers that may follow, and without folders of the computer that wrote it."""
    words = line.strip().rsplit(maxsplit=2)
    is_numbered = len(words) == 3 and words[1] == "0"
    return Path((words[0] if is_numbered else line.strip()).replace("\\", "/")).name
