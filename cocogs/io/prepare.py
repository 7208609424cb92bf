"""Pictures as the training wants them: undistorted, upright, at training resolution; made once, then cached.

The cache holds plain arrays (.npy), mapped into memory where they are read: photos (3, h, w) uint8 or uint16,
masks (h, w) bool. The name of a file carries a hash of everything it was made from, so any change makes a new
file.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io import photos, undistort
from cocogs.io.atomic import replacing
from cocogs.io.source import Intrinsics, Shot
from cocogs.threads import usable_cores

# Raise it when the same inputs give other pictures than before.
_VERSION = 5
_WORKING_MEMORY = 2 << 30  # bytes for the photos that are prepared at one time
_MOST_WORKERS = 8
# The header that numpy writes. numpy reads it by the parser of Python, which fails at times where two threads
# read at once (SystemError, Python 3.11).
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00.{2}\{'descr': '(?P<dtype>\|u1|<u2|\|b1)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d+(, \d+){1,2})\), \} *\n",
    re.DOTALL,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Picture:
    """A photo or mask on disk with the lens that belongs to its pixels.

    Args:
        path: the file.
        lens: intrinsics for the file's own size.
        upright: the lens belongs to the picture turned as its EXIF orientation says, not as stored.
        header: what the file says about itself.
    """

    path: Path
    lens: Intrinsics
    upright: bool
    header: photos.PhotoHeader


def fit_photo(shot: Shot, path: Path) -> Picture:
    """Bring a shot's lens to the size of its file, and find out whether it belongs to the turned picture.

    The shape of the picture decides; where both fit, as for square photos, `shot.upright` does.

    Raises:
        InputError: the file is unreadable or has another shape than its camera.
    """
    header = photos.read_header(path)
    for upright in (shot.upright, not shot.upright):
        width, height = header.size(upright)
        if _same_shape(shot.intrinsics, width, height):
            return Picture(path, undistort.resized(shot.intrinsics, width, height), upright, header)
    wanted = f"{shot.intrinsics.width}x{shot.intrinsics.height}"
    raise InputError(
        f"{path} has {header.width}x{header.height} px but its camera was made for {wanted}: "
        "put back the photo as it was, or remove the camera model so that cameras are computed anew."
    )


def fit_mask(photo: Picture, shot: Shot, path: Path) -> Picture:
    """The same for the photo's mask, which must have the photo's size or that of the full-size photo.

    Beside a photo whose camera belongs to the pixels as stored, the mask's pixels count as stored, too.

    Raises:
        InputError: the mask is unreadable, of another size, or the photo itself.
    """
    if path.samefile(photo.path):
        raise InputError(f"{path} is the photo itself, not its mask: put a mask in its place, or remove it.")
    header = photos.read_header(path)
    width, height = header.size(photo.upright)
    sizes = [(photo.lens.width, photo.lens.height), (shot.intrinsics.width, shot.intrinsics.height)]
    if (width, height) not in sizes:
        raise InputError(
            f"{path} has {width}x{height} px but its photo has {sizes[0][0]}x{sizes[0][1]}: "
            "make the mask as large as the photo, or remove it."
        )
    return Picture(path, undistort.resized(photo.lens, width, height), photo.upright, header)


def prepared_photo(photo: Picture, flat: Intrinsics, folder: Path) -> Path:
    """The file of a photo's pixels to train with, in `folder`; made if absent.

    Args:
        flat: the pinhole camera at training resolution.

    Raises:
        InputError: the photo is truncated, or the file cannot be written.
    """
    path = cached_path(photo, flat, folder)
    if not is_whole(path, (3, flat.height, flat.width)):
        pixels = photos.read_photo(photo.path, photo.upright, shrink=_shrink(photo, flat))
        _write(path, _prepared(photo, pixels, flat).transpose(2, 0, 1))
    return path


def prepared_mask(mask: Picture, flat: Intrinsics, folder: Path) -> Path:
    """The same for a mask: True where at least half of a training pixel is to be used."""
    path = cached_path(mask, flat, folder)
    if not is_whole(path, (flat.height, flat.width)):
        coverage = photos.read_mask(mask.path, mask.upright)[..., None] * np.uint8(255)
        _write(path, _flatten(mask, coverage, flat)[..., 0] >= 0.5)
    return path


def open_pixels(path: Path) -> np.ndarray:
    """What a prepared file holds, mapped: bytes are read as they are used, and take no memory of their own.

    Raises:
        InputError: the file is gone or damaged.
    """
    try:
        with path.open("rb") as file:
            header = _NPY.match(file.read(256))
        if header is None:
            raise ValueError(f"{path} has no header of ours")
        shape = tuple(int(length) for length in header["shape"].split(b","))
        return np.asarray(np.memmap(path, header["dtype"].decode(), "r", header.end(), shape))
    except FileNotFoundError as error:
        raise InputError(f"{path} is gone: run the command again, and it is made anew.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: remove it and run the command again.") from error


def is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a prepared file is there, with pixels of this shape."""
    try:
        return open_pixels(path).shape == shape
    except InputError:
        return False


def check_space(pictures: Sequence[tuple[Picture, Intrinsics]], folder: Path) -> int:
    """Bytes that the files take on the disk which are not in `folder` yet.

    Args:
        pictures: photos to prepare, with their cameras at training resolution.

    Raises:
        InputError: the disk has less room.
    """
    needed = 0
    for picture, flat in pictures:
        if not cached_path(picture, flat, folder).is_file():
            needed += 3 * flat.width * flat.height * picture.header.bytes_per_value
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    if needed > (free := shutil.disk_usage(place).free):
        raise InputError(
            f"{folder} would take {needed / 1e6:,.0f} MB of disk, and {free / 1e6:,.0f} MB are free: "
            "free space, give another `out`, or a larger `downscale`."
        )
    return needed


def each(
    work: Callable[[Item], Result], items: Sequence[Item], largest: Picture, flat: Intrinsics
) -> Iterator[Result]:
    """Results of preparing, in the order of the items, worked on by as many threads as pay.

    Args:
        largest, flat: the largest photo and its camera at training resolution, which tell the memory needed.
    """
    # Measured: decoding takes up to 11 bytes per pixel, undistorting at full size 40.
    of_one = largest.lens.width * largest.lens.height * (16 if _shrink(largest, flat) >= 2 else 48)
    workers = max(1, min(usable_cores(), _MOST_WORKERS, _WORKING_MEMORY // of_one))
    pool = ThreadPoolExecutor(workers, "cocogs-prepare")
    try:
        yield from pool.map(work, items)
    finally:  # after an error nobody waits for the rest
        pool.shutdown(cancel_futures=True)


def prepared_like(photo: Picture, path: Path, camera: Camera) -> np.ndarray:
    """(h, w, 3) float32 of another picture through the photo's lens, as it would be trained with.

    Args:
        camera: the photo's, at training resolution.

    Raises:
        InputError: the file is unreadable or has another shape than the photo.
    """
    header = photos.read_header(path)
    width, height = header.size(photo.upright)
    if not _same_shape(photo.lens, width, height):
        raise InputError(
            f"{path} has {width}x{height} px and {photo.path.name} {photo.lens.width}x{photo.lens.height}: "
            "give pictures of one shape."
        )
    picture = Picture(path, undistort.resized(photo.lens, width, height), photo.upright, header)
    flat = undistort.from_camera(camera)
    return _flatten(picture, photos.read_photo(path, photo.upright, shrink=_shrink(picture, flat)), flat)


def _same_shape(lens: Intrinsics, width: int, height: int) -> bool:
    """The picture is a uniform rescaling of the lens's, up to rounding to whole pixels."""
    return abs(width * lens.height - height * lens.width) <= max(lens.width, lens.height)


def cached_path(picture: Picture, flat: Intrinsics, folder: Path) -> Path:
    """Where a prepared picture lies, or will lie."""
    status = picture.path.stat()
    facts = (_VERSION, str(picture.path.resolve()), status.st_size, status.st_mtime_ns)
    key = hashlib.sha256(repr((facts, picture.upright, picture.lens, flat)).encode()).hexdigest()[:12]
    return folder / f"{picture.path.stem[:50]}-{key}.npy"  # names of files end at 255 bytes


def _shrink(picture: Picture, flat: Intrinsics) -> float:
    """How many of a picture's pixels go side by side into a training pixel."""
    return min(picture.lens.width / flat.width, picture.lens.height / flat.height)


def _prepared(picture: Picture, pixels: np.ndarray, flat: Intrinsics) -> np.ndarray:
    """(h, w, 3) of the file's dtype."""
    if undistort.is_pinhole(picture.lens) and pixels.shape[:2] == (flat.height, flat.width):
        return pixels
    return photos.from_float(_flatten(picture, pixels, flat), pixels.dtype)


def _flatten(picture: Picture, pixels: np.ndarray, flat: Intrinsics) -> np.ndarray:
    """(h, w, C) float32 training picture of the (H, W, C) uint8 or uint16 pixels of a file, or of a smaller
    copy of it."""
    if undistort.is_pinhole(picture.lens):
        return photos.resize_area(pixels, flat.width, flat.height)
    lens = undistort.resized(picture.lens, pixels.shape[1], pixels.shape[0])
    shrink = lens.width / flat.width
    if shrink < 1.5:
        return undistort.undistort(photos.to_float(pixels), lens, flat).clip(0, 1)
    # Undistorting samples single points; to average over whole areas, it goes to twice the training
    # resolution, from a photo reduced to about that, and the area filter takes the last step.
    reduce = max(1, int(shrink / 2))
    small = undistort.resized(lens, round(lens.width / reduce), round(lens.height / reduce))
    fine = undistort.resized(flat, 2 * flat.width, 2 * flat.height)
    reduced = photos.resize_area(pixels, small.width, small.height)
    return photos.resize_area(undistort.undistort(reduced, small, fine).clip(0, 1), flat.width, flat.height)


def _write(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.ascontiguousarray(pixels))
