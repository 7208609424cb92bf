"""Photos and masks as files: which ones a folder holds, their headers, and their pixels.

Arrays are numpy, (H, W, 3), in the file's own depth: uint8 or uint16, sRGB-encoded.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from cocogs.errors import InputError
from cocogs.io import decoding, raw
from cocogs.io.exif import (
    LensFacts,
    copied_exif,
    read_exif,
    read_lens_facts,
    read_orientation,
    read_raw_exif,
    says_white_balance,
)
from cocogs.io.pixels import from_float, largest, resize_area, to_float, write_png

__all__ = [
    "KINDS",
    "PICTURE_SUFFIXES",
    "SUFFIXES",
    "LensFacts",
    "PhotoHeader",
    "from_float",
    "list_files",
    "list_photos",
    "read_header",
    "read_labels",
    "read_mask",
    "read_photo",
    "resize_area",
    "to_float",
    "turned",
    "write_png",
]

# What COLMAP reads, too.
_PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
PICTURE_SUFFIXES = (*_PLAIN_SUFFIXES, ".webp", ".jpe", ".jfif")
_HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".avif")
SUFFIXES = (*PICTURE_SUFFIXES, *_HEIF_SUFFIXES, *raw.SUFFIXES)
KINDS = "JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW"
# What a file beside a photo is called that belongs to the photo but is none: NAME_mask.png, NAME.depth.png.
_COMPANION = re.compile(r"(.+)[._](mask|depth|normal|alpha)([._]\d+)?$", re.IGNORECASE)
# Folders whose pictures are not photos of the scene: masks, depths, smaller copies, what programs keep.
_NOT_PHOTOS = re.compile(r"masks?|thumbnails?|thumbs|images_\d+|colmap|@eadir", re.IGNORECASE)
# Folders that are as often, but that somebody may call so who keeps photos there: the user is told.
_HARDLY_PHOTOS = re.compile(r"depths?|normals?|segmentations?|cache|sparse|dense|distorted", re.IGNORECASE)
_GPANO = re.compile(r"""(?<!/)\bGPano:(\w+)\s*(?:=\s*["']|>)\s*([^"'<]*?)\s*["'<]""")
# The EXIF orientations that undo these; the other six undo themselves.
_TURN_BACK = {6: 8, 8: 6}


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo file says before its pixels are decoded.

    Args:
        width, height: size in px after turning the picture as EXIF says.
        stored_width, stored_height: size in px of the pixels as stored.
        orientation: EXIF orientation, 1 (upright) to 8.
        has_alpha: the file has transparency.
        lens: lens facts from EXIF.
        bytes_per_value: 1, or 2 for files of more than 8 bits per channel.
        is_plain: COLMAP can read the file.
        says_white: False for a RAW file without the camera's white balance.
        gpano: Google's Photo Sphere metadata, which 360-degree cameras write: names without "GPano:", values.
    """

    width: int
    height: int
    stored_width: int
    stored_height: int
    orientation: int
    has_alpha: bool
    lens: LensFacts
    bytes_per_value: int = 1
    is_plain: bool = True
    says_white: bool = True
    gpano: tuple[tuple[str, str], ...] = ()

    def size(self, upright: bool) -> tuple[int, int]:
        """(width, height) in px, of the turned or of the stored picture."""
        return (self.width, self.height) if upright else (self.stored_width, self.stored_height)


def list_photos(folder: Path, named: Collection[str] = ()) -> list[str]:
    """Sorted names of the photos in `folder` and its subfolders ("left/000.png").

    Left out are hidden files and folders, smaller copies (images_4/), masks, depths, and what programs keep
    beside photos, such as a run folder. If a photo lies there in several kinds (IMG_1.CR2, IMG_1.JPG), one
    file is taken: RAW before HEIC or AVIF before the others, but a kind that all photos have before one
    that only some have.

    Args:
        named: files to take whatever their kind.

    Raises:
        InputError: a folder cannot be read.
    """
    names = [name for name in list_files(folder) if name.lower().endswith(SUFFIXES)]
    stems = {os.path.splitext(name)[0] for name in names}
    return _without_twins([name for name in names if not _is_companion(name, stems)], set(named))


def kind(name: str) -> str:
    """What a photo file of this name is called: RAW, HEIC, AVIF, JPEG, PNG, TIFF, WEBP, ..."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in raw.SUFFIXES:
        return "RAW"
    other = {".jpg": "JPEG", ".tif": "TIFF", ".heif": "HEIC", ".hif": "HEIC"}
    return other.get(suffix, suffix[1:].upper())


def _without_twins(names: list[str], named: set[str]) -> list[str]:
    """Sorted; one kind of each photo, see `list_photos`."""
    ranks = {"RAW": 0, "HEIC": 1, "AVIF": 1}
    by_stem: dict[str, dict[int, list[str]]] = {}
    for name in names:
        kinds = by_stem.setdefault(os.path.splitext(name)[0].lower(), {})
        kinds.setdefault(ranks.get(kind(name), 2), []).append(name)
    common = set.intersection(*map(set, by_stem.values())) if by_stem else set()
    taken = []
    for kinds in by_stem.values():
        asked = [files for files in kinds.values() if not named.isdisjoint(files)]
        taken += asked[0] if asked else kinds[min(common or kinds)]
    return sorted(taken)


def list_files(folder: Path) -> Iterator[str]:
    """Names of all files that `list_photos` looks at, relative to `folder`, with / between folders.

    Raises:
        InputError: a folder cannot be read.
    """
    for place, _, files in _walk(folder):
        for file in files:
            path = os.path.join(place, file)
            is_lost = os.path.islink(path) and not os.path.exists(path)  # its disk is not there: told by name
            if not file.startswith(".") and (os.path.isfile(path) or is_lost):
                yield Path(place, file).relative_to(folder).as_posix()


def list_left_out(folder: Path) -> dict[str, list[str]]:
    """The pictures in subfolders that `list_photos` leaves out for names that a folder of photos may have
    too, such as normal/. By subfolder; both relative to `folder`. Unreadable subfolders are passed over.

    Raises:
        InputError: another folder cannot be read.
    """
    found = {}
    for place, passed, _ in _walk(folder):
        for inner in (Path(place, name) for name in passed if _HARDLY_PHOTOS.fullmatch(name)):
            subfolder = inner.relative_to(folder).as_posix()
            with suppress(InputError):
                files = [
                    f"{subfolder}/{name}" for name in list_files(inner) if name.lower().endswith(SUFFIXES)
                ]
                found |= {subfolder: files} if files else {}
    return found


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder that may hold photos, the names of its subfolders that may not, and those of its files."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}): check its permissions."
        ) from error

    seen = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        passed = sorted(name for name in folders if not _may_hold_photos(Path(place, name)))
        folders[:] = sorted(set(folders).difference(passed))
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield place, passed, files


def read_header(path: Path) -> PhotoHeader:
    """Size, orientation and lens facts of a photo, without decoding it.

    Raises:
        InputError: the file is not a readable picture.
    """
    if raw.is_raw(path):
        return _read_raw_header(path)
    with decoding.opened(path) as image:
        exif = read_exif(image)
        orientation, stored = read_orientation(exif), decoding.stored_size(image)
        lens = read_lens_facts(exif, image.info.get("exif") or b"")
        transparent, depth = decoding.has_alpha(image), decoding.bytes_per_value(image)
        is_plain = image.format in ("JPEG", "MPO", "PNG", "TIFF") and path.suffix.lower() in _PLAIN_SUFFIXES
        gpano = _read_gpano(image.info.get("xmp") or b"")
    facts = (orientation, transparent, lens, depth, is_plain)
    return PhotoHeader(*_upright(stored, orientation), *stored, *facts, gpano=gpano)


def _read_gpano(xmp: bytes | str) -> tuple[tuple[str, str], ...]:
    """XMP holds them as attributes, GPano:NAME="VALUE", or as elements."""
    text = xmp if isinstance(xmp, str) else xmp.decode("utf-8", "replace")
    return tuple(_GPANO.findall(text))


def _read_raw_header(path: Path) -> PhotoHeader:
    header = raw.read_header(path)
    with decoding.calm():
        exif, block = read_raw_exif(path)
        lens, says_white = read_lens_facts(exif, block), says_white_balance(exif)
    if lens.focal_length_mm is None:
        focal_length, f_number = raw.read_lens(path)
        lens = replace(lens, focal_length_mm=focal_length, f_number=f_number)
    stored = header.width, header.height
    upright = _upright(stored, header.orientation)
    return PhotoHeader(
        *upright, *stored, header.orientation, False, lens, 2, is_plain=False, says_white=says_white
    )


def _upright(stored: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the turned picture."""
    return (stored[1], stored[0]) if orientation >= 5 else stored


def exif_for_copy(path: Path) -> bytes:
    """The EXIF block that an upright copy of a photo is to have (see `copied_exif`).

    Raises:
        InputError: the file is not a readable picture.
    """
    if raw.is_raw(path):
        with decoding.calm():
            return copied_exif(read_raw_exif(path)[0])
    with decoding.opened(path) as image:
        return copied_exif(read_exif(image))


def read_photo(path: Path, upright: bool = True, shrink: float = 1.0) -> np.ndarray:
    """Decode a photo to (H, W, 3) sRGB, uint8, or uint16 for files of more bits per channel.

    Transparent pixels are laid over black. Colours of an ICC profile are converted to sRGB.

    Args:
        upright: turn the picture as its EXIF orientation says.
        shrink: by how much the picture is going to be shrunk. A JPEG may then come out smaller (see
            `decoding.reduce`), and a RAW photo at half size.

    Raises:
        InputError: the file is not a picture, it is truncated, or its values do not fit 16 bits.
    """
    return _read(path, upright, to_srgb=True, shrink=shrink)


def read_mask(path: Path, upright: bool = True) -> np.ndarray:
    """Decode a mask to (H, W) bool: True (white) = use.

    Raises:
        InputError: the file is not a picture, or it is truncated.
    """
    green = _read(path, upright, to_srgb=False)[..., 1]
    return green > largest(green) // 2


def read_labels(path: Path, upright: bool = True) -> np.ndarray:
    """Decode a grey picture whose values are numbers of things to (H, W) int64; what is transparent is 0.

    Raises:
        InputError: the file is no picture, truncated, or in colour.
    """
    values = _read(path, upright, to_srgb=False)
    if (values != values[..., :1]).any():
        raise InputError(f"{path} is in colour: its grey values must be the numbers.")
    return values[..., 0].astype(np.int64)


def _read(path: Path, upright: bool, to_srgb: bool, shrink: float = 1.0) -> np.ndarray:
    if raw.is_raw(path):
        pixels = raw.decode(path, half=shrink >= raw.HALF_FROM)
        return turned(pixels, raw.read_header(path).orientation) if upright else pixels
    with decoding.opened(path) as image:
        decoding.reduce(image, shrink)
        orientation = read_orientation(read_exif(image))
        pixels = decoding.decode(path, image, to_srgb)
        # Pillow turns TIFF files, and only these, while it decodes them.
        is_upright = isinstance(image, TiffImageFile)
    if upright == is_upright:
        return pixels
    return turned(pixels, orientation if upright else _TURN_BACK.get(orientation, orientation))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright picture of stored pixels, for the eight EXIF orientations."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _may_hold_photos(folder: Path) -> bool:
    """No hidden folder, none of masks or copies, and no run folder (which holds copies of the photos)."""
    name = folder.name
    is_run = (folder / "config.json").is_file() and (folder / "cache").is_dir()
    is_other = any(names.fullmatch(name) for names in (_NOT_PHOTOS, _HARDLY_PHOTOS))
    return not (name.startswith(".") or is_other or is_run)


def _is_companion(name: str, stems: set[str]) -> bool:
    """The mask or depth of a photo whose name without suffix is in `stems`, or NAME.EXT_mask.png of one."""
    match = _COMPANION.fullmatch(os.path.splitext(name)[0])
    return match is not None and (match[1] in stems or os.path.splitext(match[1])[0] in stems)
