"""What a dataset folder holds beside its cameras: images/, images_N/, masks/, hold=N."""

import math
import os.path
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io.photos import list_photos, read_header

# With no --downscale, photos are shrunk by the smallest whole factor that brings the longer side to this.
LONGER_SIDE = 800


@dataclass(frozen=True)
class Pictures:
    """The folder chosen to train from.

    Args:
        folder: where the pictures lie.
        shrunk_by: how much smaller they are than the dataset's full-size photos (the N of images_N).
        paths: the file of each photo, by the photo's name in the source.
    """

    folder: Path
    shrunk_by: int
    paths: dict[str, Path]


def photo_folder(data: Path) -> Path:
    """The folder of the full-size photos: images/, or the dataset folder itself."""
    images = data / "images"
    return images if images.is_dir() else data


def find_pictures(data: Path, names: list[str], downscale: int | None) -> Pictures:
    """Find the files of the named photos at the size that suits `downscale` best.

    images_N/ is taken when N is the factor asked for or, where none is asked for, when its longer side lies
    between half of LONGER_SIDE and LONGER_SIDE; else the full-size photos are, or failing these the largest
    images_N/.

    Raises:
        InputError: there are no such files, or only smaller ones than asked for.
    """
    folders = _folders(data)
    if not folders:
        raise InputError(
            f"{data} holds no images folder: put the photos of its cameras into {data / 'images'}."
        )
    shrunk_by = _choose(folders, downscale)
    if downscale is not None and shrunk_by > downscale:
        raise InputError(
            f"{data} only holds photos already shrunk by {shrunk_by}: use `downscale={shrunk_by}` or more."
        )
    folder = folders[shrunk_by]
    return Pictures(folder, shrunk_by, _match(names, folder, folders.get(1)))


def list_largest(data: Path) -> list[str]:
    """Sorted names of the full-size photos or, where there are none, of the largest copies.

    Raises:
        InputError: there are none at all.
    """
    found = _folders(data)
    if not found:
        raise InputError(f"{data} holds no photos: put them into {data / 'images'}.")
    return list_photos(found[min(found)])


def automatic_downscale(longer_side: int) -> int:
    """The factor used when the user names none."""
    return max(1, math.ceil(longer_side / LONGER_SIDE))


def find_mask(data: Path, name: str) -> Path | None:
    """masks/NAME.png or masks/NAME.EXT.png (COLMAP's way) of a photo, where there is one.

    Of a photo outside the dataset, NAME is the mere file name.
    """
    inner = _inner_name(data, name)
    for candidate in (data / "masks" / inner.with_suffix(".png"), data / "masks" / f"{inner}.png"):
        if os.path.isfile(candidate):
            return candidate
    return None


def _inner_name(data: Path, name: str) -> Path:
    """A photo's path without what leads out of a folder: masks/ joined with /a/b.png would be that photo."""
    path = Path(name)
    for folder in (photo_folder(data).absolute(), data.absolute()):
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path


def read_hold(data: Path) -> int | None:
    """N of the file named hold=N: every Nth photo, from the first, is kept for testing.

    Raises:
        InputError: N is not a whole number above 0, or there are several such files.
    """
    files = sorted(data.glob("hold=*"))
    if not files:
        return None
    value = files[0].name.removeprefix("hold=")
    if len(files) > 1 or not value.isdecimal() or int(value) < 1:
        raise InputError(
            f"{files[0]} is not one hold=N with N at least 1: keep a single file such as hold=8."
        )
    return int(value)


def _folders(data: Path) -> dict[int, Path]:
    """Folders with photos by how much they are shrunk; 1 is the full size."""
    found = {1: photo_folder(data)}
    for folder in data.glob("images_*"):
        if (factor := re.fullmatch(r"images_([1-9]\d*)", folder.name)) and folder.is_dir():
            found.setdefault(int(factor[1]), folder)
    return {
        factor: folder for factor, folder in found.items() if list_photos(folder) or _nested(folder, data)
    }


def _nested(folder: Path, data: Path) -> bool:
    """COLMAP allows photos in subfolders of images/."""
    return folder != data and any(list_photos(child) for child in folder.iterdir() if child.is_dir())


def _choose(folders: dict[int, Path], downscale: int | None) -> int:
    if downscale is not None:
        return downscale if downscale in folders else min(folders)
    suitable = (
        factor for factor in folders if LONGER_SIDE / 2 < _longer_side(folders[factor]) <= LONGER_SIDE
    )
    return min(suitable, default=min(folders))


def _longer_side(folder: Path) -> int:
    names = list_photos(folder)
    if not names:
        return LONGER_SIDE + 1
    header = read_header(folder / names[0])
    return max(header.width, header.height)


def _match(names: list[str], folder: Path, full_size: Path | None) -> dict[str, Path]:
    """Files of `folder` by the source's names: the same name, else the same stem where no two photos share
    one, else the same place in sorted order (NeRF-LLFF's images_4 are numbered whatever the photos are
    called)."""
    if all((folder / name).is_file() for name in names):
        return {name: folder / name for name in names}
    present = list_photos(folder)
    stems = {Path(name).stem for name in names}
    by_stem = {Path(name).stem: folder / name for name in present} if len(stems) == len(names) else {}
    if stems <= by_stem.keys():
        return {name: by_stem[Path(name).stem] for name in names}
    ordered = sorted(names) if full_size in (None, folder) else list_photos(full_size)
    if folder != full_size and len(ordered) == len(present) and set(names) <= set(ordered):
        return {name: folder / file for name, file in zip(ordered, present, strict=True) if name in names}
    absent = [name for name in names if not (folder / name).is_file() and Path(name).stem not in by_stem]
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    raise InputError(
        f"{folder} lacks {', '.join(absent[:3])}{more}, which the cameras name: "
        "copy the missing photos there, or remove the camera model so that cameras are computed anew."
    )


def usage_line(data: Path, used: Collection[Path]) -> str:
    """Which of the photos in a dataset are used, for the user."""
    inside = {folder / name for folder in _folders(data).values() for name in list_photos(folder)}
    unused = sorted(
        path.name for path in inside if path.parent in {u.parent for u in used} and path not in used
    )
    names = f"; not used: {', '.join(unused)}" if unused else ""
    return f"{len(used)} of {len(used) + len(unused)} photos in {data} are used{names}."
