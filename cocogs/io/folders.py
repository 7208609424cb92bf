"""What a dataset folder holds beside its cameras: images/, images_N/, masks/, hold=N; and what is used."""

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError, counted, listed
from cocogs.io.photos import (
    KINDS,
    PICTURE_SUFFIXES,
    SUFFIXES,
    kind,
    list_files,
    list_left_out,
    list_photos,
    read_header,
)
from cocogs.io.source import MAX_SIDE
from cocogs.io.video import is_video

Listings = dict[Path, dict[str, str]]
"""The files of folders, by their names in small letters."""
_MASK_FOLDERS = ("masks", "mask")
# Photos of kinds that cannot be read, by suffix.
_UNREAD = {".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".bmp": "BMP", ".gif": "GIF"}


@dataclass(frozen=True)
class Size:
    """How large the pictures to train from should be.

    Args:
        longer_side: px, at most.
        downscale: whole factor by which photos shrink; None: the smallest that brings them to `longer_side`.
    """

    longer_side: int
    downscale: int | None = None

    def factor(self, longer_side: int) -> int:
        """By how much photos of this longer side (px) shrink where no `downscale` is given."""
        return max(1, math.ceil(longer_side / self.longer_side))


FULL_SIZE = Size(MAX_SIDE, 1)


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


def find_pictures(data: Path, names: list[str], size: Size) -> Pictures:
    """Find the files of the named photos at the size that suits best.

    images_N/ is taken when N is the factor asked for or, where none is asked for, when its longer side lies
    between half of `size.longer_side` and all of it; else the full-size photos are, or failing these the
    largest images_N/.

    Raises:
        InputError: there are no such files, or only smaller ones than asked for.
    """
    folders = _folders(data)
    if not folders:
        raise InputError(
            f"{data} holds no images folder: put the photos of its cameras into {data / 'images'}."
        )
    shrunk_by = _choose(folders, size)
    if size.downscale is not None and shrunk_by > size.downscale:
        raise InputError(
            f"{data} only holds photos already shrunk by {shrunk_by}: set `downscale` to {shrunk_by} or more."
        )
    folder = folders[shrunk_by]
    return Pictures(folder, shrunk_by, _match(names, folder, folders.get(1)))


def stored_sizes(data: Path, names: list[str]) -> dict[str, tuple[int, int]]:
    """(width, height) in px of the named full-size photos, as stored, for cameras that do not tell.

    Raises:
        InputError: there are no such photos, or they cannot be read.
    """
    paths = find_pictures(data, names, FULL_SIZE).paths
    return {name: read_header(path).size(upright=False) for name, path in paths.items()}


def list_largest(data: Path) -> list[str]:
    """Sorted names of the full-size photos or, where there are none, of the largest copies.

    Raises:
        InputError: there are none at all.
    """
    found = _folders(data)
    if not found:
        raise InputError(f"{data} holds no photos: put them into {data / 'images'}.")
    return list_photos(found[min(found)])


def find_masks(data: Path, names: list[str]) -> dict[str, Path]:
    """The masks of the named photos, for those that have one.

    Raises:
        InputError: a folder of masks holds files, but none for any of the photos.
    """
    listings: Listings = {}
    found = {name: mask for name in names if (mask := find_mask(data, name, listings))}
    for folder in (data / name for name in _MASK_FOLDERS if not found):
        if folder.is_dir() and (files := sorted(list_files(folder))):
            raise InputError(
                f"{folder} holds {listed(files, 1)}, but no mask of a photo: name the mask of "
                f"{Path(names[0]).name} {Path(names[0]).stem}.png, or remove the folder."
            )
    return found


def find_mask(data: Path, name: str, listings: Listings | None = None) -> Path | None:
    """The mask of a photo, where there is one.

    Masks lie in masks/ or mask/, or beside the photo. For a photo a.jpg they are called a.png, a.jpg.png
    (COLMAP), a.jpg.mask.png or a.mask.png (RealityScan), or a_mask.png, with any suffix of a picture, in
    capitals or not; beside the photo only the last three count. For a photo outside the dataset, only the
    file name counts, not its folder.

    Args:
        listings: what folders were found to hold, for the next photo.
    """
    listings = {} if listings is None else listings
    inner = _inner_name(data, name)
    marked = [f"{inner.name}.mask", f"{inner.stem}.mask", f"{inner.name}_mask", f"{inner.stem}_mask"]
    for folder in (data / folder / inner.parent for folder in _MASK_FOLDERS):
        if found := _find_picture(folder, [inner.stem, inner.name, *marked], listings):
            return found
    return _find_picture(photo_folder(data) / inner.parent, marked, listings)


def _find_picture(folder: Path, stems: list[str], listings: Listings) -> Path | None:
    """The first file of a folder that has one of these stems and the suffix of a picture, PNG first."""
    if folder not in listings:
        listings[folder] = {file.lower(): file for file in _file_names(folder)}
    present = listings[folder]
    for stem in stems:
        for suffix in (".png", *PICTURE_SUFFIXES):
            if file := present.get(f"{stem}{suffix}".lower()):
                return folder / file
    return None


def _file_names(folder: Path) -> list[str]:
    """Sorted names of the files in a folder that are not hidden; none where there is no such folder."""
    try:
        return sorted(
            entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()
        )
    except OSError:
        return []


def _inner_name(data: Path, name: str) -> Path:
    """A photo's path without what leads out of a folder: masks/ joined with /a/b.png would be that photo."""
    path = Path(name)
    for folder in (photo_folder(data).absolute(), data.absolute()):
        if path.is_relative_to(folder):
            path = path.relative_to(folder)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path


def no_photos(folder: Path) -> InputError:
    """The error about a folder without photos that can be read."""
    kinds = sorted({_UNREAD.get(os.path.splitext(name)[1].lower(), "") for name in list_files(folder)} - {""})
    if kinds:
        return InputError(
            f"{folder} holds only photos that cannot be read ({', '.join(kinds)}): save them as JPEG, PNG, "
            "TIFF or WebP."
        )
    if videos := sorted(file for file in folder.iterdir() if is_video(file)):
        return InputError(f"{folder} holds no photo, but a video: give the video itself, {videos[0]}.")
    if left := [f"{name}/" for name in list_left_out(folder)]:
        return InputError(
            f"{folder} holds pictures only in {listed(left)}: call the folder something else if these are "
            "your photos."
        )
    return InputError(f"{folder} holds no photo ({KINDS}): name the folder that holds your photos.")


def usage_line(data: Path, used: Collection[Path]) -> str:
    """One line for the user: how many of the photos in a dataset are used, and which are not.

    Counted are the files below the folders that the photos come from (all of `data` where that is not
    images/ or images_N/ alone), also those of kinds that cannot be read, such as JPEG XL. Other files of a
    photo that is used (IMG_1.JPG beside IMG_1.CR2) are told apart, and so are pictures in folders that are
    left out because of their names.

    Args:
        used: the photos' files.
    """
    files = {os.path.abspath(path) for path in used}
    by_stem = {os.path.splitext(path)[0].lower(): kind(path) for path in files}
    unused: dict[str, list[str]] = {}
    twins: dict[str, str] = {}
    left: list[str] = []
    for folder in _searched(data, files):
        prefix = "" if folder == data else f"{folder.relative_to(data).as_posix()}/"
        for name, inner in list_left_out(folder).items():
            if count := sum(os.path.abspath(folder / file) not in files for file in inner):
                left.append(f"{counted(count, 'picture')} in {prefix}{name}/")
        readable = set(list_photos(folder, [os.path.relpath(path, folder) for path in files]))
        for name in sorted(list_files(folder)):
            path = os.path.abspath(folder / name)
            stem, suffix = os.path.splitext(path)
            if path in files or not (suffix.lower() in SUFFIXES or suffix.lower() in _UNREAD):
                continue
            if by_stem.get(stem.lower(), kind(name)) != kind(name):
                twins[stem] = kind(name)
            elif name in readable or suffix.lower() in _UNREAD:
                unused.setdefault(_UNREAD.get(suffix.lower(), ""), []).append(prefix + name)
    total = len(files) + sum(map(len, unused.values()))
    used_kinds = _kinds(by_stem[stem.lower()] for stem in twins)
    said = f" For {counted(len(twins), 'photo')} the {used_kinds} is used, not the "
    told = f"{said}{_kinds(twins.values())}." if twins else ""
    told += f" Left out because of the folder's name: {listed(left)}." if left else ""
    if not unused:
        return f"All {total} photos in {data} are used.{told}"
    groups = [
        listed(names) + (f" ({unread} cannot be read: save as JPEG, PNG, TIFF or WebP)" if unread else "")
        for unread, names in sorted(unused.items())
    ]
    return f"{len(files)} of {total} photos in {data} are used; not used: {'; '.join(groups)}.{told}"


def _searched(data: Path, files: set[str]) -> list[Path]:
    """The folders in which photos could lie that are not used."""
    own = [data / "images", *sorted(data.glob("images_*"))]
    holding = [
        folder
        for folder in own
        if folder.is_dir() and any(Path(file).is_relative_to(os.path.abspath(folder)) for file in files)
    ]
    inside = [file for file in files if any(Path(file).is_relative_to(os.path.abspath(f)) for f in holding)]
    return holding if holding and len(inside) == len(files) else [data]


def _kinds(kinds: Iterable[str]) -> str:
    return " or ".join(sorted(set(kinds)))


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
    return {factor: folder for factor, folder in found.items() if list_photos(folder)}


def _choose(folders: dict[int, Path], size: Size) -> int:
    if size.downscale is not None:
        return size.downscale if size.downscale in folders else min(folders)
    most = size.longer_side
    suitable = (factor for factor in folders if most / 2 < _longer_side(folders[factor]) <= most)
    return min(suitable, default=min(folders))


def _longer_side(folder: Path) -> int:
    header = read_header(folder / list_photos(folder)[0])
    return max(header.width, header.height)


def _match(names: list[str], folder: Path, full_size: Path | None) -> dict[str, Path]:
    """Files of `folder` by the source's names.

    A file fits by the same name, else by the same name but for its suffix and capitals, else by its stem
    alone, where no two photos share one, else by the same place in sorted order (the images_4 of NeRF-LLFF
    are numbered, whatever the photos are called).
    """
    if all(os.path.isfile(folder / name) for name in names):
        return {name: folder / name for name in names}
    present = list_photos(folder, names)
    for key in (_without_suffix, _stem):
        by_key = {key(name): folder / name for name in present}
        wanted = {key(name) for name in names}
        if len(wanted) == len(names) and len(by_key) == len(present) and wanted <= by_key.keys():
            return {name: by_key[key(name)] for name in names}
    ordered = sorted(names) if full_size in (None, folder) else list_photos(full_size)
    if folder != full_size and len(ordered) == len(present) and set(names) <= set(ordered):
        return {name: folder / file for name, file in zip(ordered, present, strict=True) if name in names}
    stems = set(map(_stem, present))
    absent = [name for name in names if not os.path.isfile(folder / name) and _stem(name) not in stems]
    if not absent and all(Path(name.replace("\\", "/")).name == name for name in names):
        raise InputError(
            f"{folder} holds several photos that the cameras may mean by {listed(names)}: export them with "
            "the full names of the photos, or remove the camera model so that cameras are computed anew."
        )
    raise InputError(
        f"{folder} lacks {listed(absent or names)}, which the cameras name: "
        "copy the missing photos there, or remove the camera model so that cameras are computed anew."
    )


def _without_suffix(name: str) -> str:
    return os.path.splitext(Path(name.replace("\\", "/")))[0].lower()


def _stem(name: str) -> str:
    return Path(name.replace("\\", "/")).stem.lower()
