"""Pictures as the training wants them: undistorted, upright, at training resolution; made once, then cached.

The name of a cached file carries a hash of everything it was made from, so any change makes a new file.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io import photos, undistort
from cocogs.io.atomic import replacing
from cocogs.io.source import Intrinsics, Shot

# Raise it when the same inputs give other pictures than before.
_VERSION = 4


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

    def is_ready(self, flat: Intrinsics) -> bool:
        """The file can be trained with as it is: no conversion is needed, and COLMAP, which searches it for
        features, can read it."""
        upright = self.upright or self.header.orientation == 1
        return self.lens == flat and upright and self.header.is_srgb and self.header.is_plain


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
    """The file to train with: the photo itself where it will do, else a copy in `folder`, made if absent.

    Args:
        flat: the pinhole camera at training resolution.

    Raises:
        InputError: the photo is truncated, or the copy cannot be written.
    """
    if photo.is_ready(flat):
        return photo.path
    path = _cached_path(photo, flat, folder)
    if not path.is_file():
        pixels = photos.read_photo(photo.path, photo.upright, photo.lens.width / flat.width)
        _write(path, photos.from_float(_flatten(photo, pixels, flat), pixels.dtype))
    return path


def prepared_mask(mask: Picture, flat: Intrinsics, folder: Path) -> Path:
    """The same for a mask: white where at least half of a training pixel is to be used."""
    if mask.is_ready(flat):
        return mask.path
    path = _cached_path(mask, flat, folder)
    if not path.is_file():
        coverage = photos.read_mask(mask.path, mask.upright)[..., None] * np.uint8(255)
        _write(path, np.where(_flatten(mask, coverage, flat)[..., 0] >= 0.5, 255, 0).astype(np.uint8))
    return path


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
    return _flatten(picture, photos.read_photo(path, photo.upright), undistort.from_camera(camera))


def _same_shape(lens: Intrinsics, width: int, height: int) -> bool:
    """The picture is a uniform rescaling of the lens's, up to rounding to whole pixels."""
    return abs(width * lens.height - height * lens.width) <= max(lens.width, lens.height)


def _cached_path(picture: Picture, flat: Intrinsics, folder: Path) -> Path:
    status = picture.path.stat()
    facts = (_VERSION, str(picture.path.resolve()), status.st_size, status.st_mtime_ns)
    key = hashlib.sha256(repr((facts, picture.upright, picture.lens, flat)).encode()).hexdigest()[:12]
    return folder / f"{picture.path.stem}-{key}.png"


def _flatten(picture: Picture, pixels: np.ndarray, flat: Intrinsics) -> np.ndarray:
    """(h, w, C) float32 training picture of the file's (H, W, C) uint8 or uint16 pixels."""
    lens = picture.lens
    if undistort.is_pinhole(lens):
        return photos.resize_area(pixels, flat.width, flat.height)
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
    with replacing(path) as temporary:
        photos.write_png(temporary, pixels)
