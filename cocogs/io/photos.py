"""Photos and masks as files: which ones a folder holds, their headers, and their pixels.

Arrays are numpy, (H, W, 3), in the file's own depth: uint8 or uint16, sRGB-encoded.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from cocogs.errors import InputError
from cocogs.io import decoding
from cocogs.io.exif import LensFacts, read_exif, read_lens_facts, read_orientation
from cocogs.io.pixels import from_float, largest, resize_area, to_float, write_png

__all__ = [
    "SUFFIXES",
    "LensFacts",
    "PhotoHeader",
    "from_float",
    "list_files",
    "list_photos",
    "read_header",
    "read_mask",
    "read_photo",
    "resize_area",
    "to_float",
    "write_png",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
# What a file beside a photo is called that belongs to the photo but is none: NAME_mask.png, NAME.depth.png.
_COMPANION = re.compile(r"(.+)[._](mask|depth|normal|alpha)([._]\d+)?$", re.IGNORECASE)
# Folders whose pictures are not photos of the scene: masks, depths, smaller copies, what programs keep.
_NOT_PHOTOS = re.compile(
    r"masks?|depths?|normals?|segmentations?|cache|thumbnails?|thumbs|images_\d+|sparse|dense|colmap|distorted|@eadir",
    re.IGNORECASE,
)
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
        bytes_per_value: 1, or 2 for files of 16 bits per channel.
    """

    width: int
    height: int
    stored_width: int
    stored_height: int
    orientation: int
    has_alpha: bool
    lens: LensFacts
    bytes_per_value: int = 1

    def size(self, upright: bool) -> tuple[int, int]:
        """(width, height) in px, of the turned or of the stored picture."""
        return (self.width, self.height) if upright else (self.stored_width, self.stored_height)


def list_photos(folder: Path) -> list[str]:
    """Sorted names of the JPEG, PNG, TIFF and WebP photos in `folder` and its subfolders ("left/000.png").

    Left out are hidden files and folders, smaller copies (images_4/), masks, depths, and what programs keep
    beside photos, such as a run folder.

    Raises:
        InputError: a folder cannot be read.
    """
    names = [name for name in list_files(folder) if name.lower().endswith(SUFFIXES)]
    stems = {os.path.splitext(name)[0] for name in names}
    return sorted(name for name in names if not _is_companion(name, stems))


def list_files(folder: Path) -> Iterator[str]:
    """Names of all files that `list_photos` looks at, relative to `folder`, with / between folders.

    Raises:
        InputError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}): check its permissions."
        ) from error

    seen = set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if _may_hold_photos(Path(place, name)))
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for file in files:
            if not file.startswith(".") and os.path.isfile(os.path.join(place, file)):
                yield Path(place, file).relative_to(folder).as_posix()


def read_header(path: Path) -> PhotoHeader:
    """Size, orientation and lens facts of a photo, without decoding it.

    Raises:
        InputError: the file is not a readable picture.
    """
    with decoding.opened(path) as image:
        exif = read_exif(image)
        orientation = read_orientation(exif)
        width, height = stored = decoding.stored_size(image)
        if orientation >= 5:
            width, height = height, width
        lens = read_lens_facts(exif, image.info.get("exif", b""))
        transparent, depth = decoding.has_alpha(image), decoding.bytes_per_value(image)
    return PhotoHeader(width, height, *stored, orientation, transparent, lens, depth)


def read_photo(path: Path, upright: bool = True, shrink: float = 1.0) -> np.ndarray:
    """Decode a photo to (H, W, 3) sRGB, uint8, or uint16 for files of 16 bits per channel.

    Transparent pixels are laid over black. Colours of an ICC profile are converted to sRGB.

    Args:
        upright: turn the picture as its EXIF orientation says.
        shrink: how much the picture will be shrunk; a JPEG may come out smaller already, see
            `decoding.reduce`.

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


def _read(path: Path, upright: bool, to_srgb: bool, shrink: float = 1.0) -> np.ndarray:
    with decoding.opened(path) as image:
        decoding.reduce(image, shrink)
        orientation = read_orientation(read_exif(image))
        pixels = decoding.decode(path, image, to_srgb)
        # Pillow turns TIFF files, and only these, while it decodes them.
        is_upright = isinstance(image, TiffImageFile)
    if upright == is_upright:
        return pixels
    return _turn(pixels, orientation if upright else _TURN_BACK.get(orientation, orientation))


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
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
    return not (name.startswith(".") or _NOT_PHOTOS.fullmatch(name) or is_run)


def _is_companion(name: str, stems: set[str]) -> bool:
    """The mask or depth of a photo whose name without suffix is in `stems`, or NAME.EXT_mask.png of one."""
    match = _COMPANION.fullmatch(os.path.splitext(name)[0])
    return match is not None and (match[1] in stems or os.path.splitext(match[1])[0] in stems)
