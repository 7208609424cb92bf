"""A photo file, opened to be refocused: its pixels, depth and lens, and where these come from."""

from dataclasses import dataclass
from pathlib import Path

from cocogs.device import choose_device
from cocogs.io import photos
from cocogs.io.progress import Say
from cocogs.photo.depth import PictureDepth, find_depth
from cocogs.photo.lenses import PhotoCamera, find_camera
from cocogs.photo.refocus import DepthPhoto
from cocogs.photo.slices import light_of


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo that is ready to be refocused, and where its numbers come from.

    Args:
        bits: 8 or 16, of the file.
    """

    path: Path
    picture: DepthPhoto
    depth: PictureDepth
    camera: PhotoCamera
    bits: int


def open_photo(
    path: Path,
    depth: str | None = None,
    depth_kind: str | None = None,
    source: str | None = None,
    width: int | None = None,
    say: Say = print,
) -> OpenedPhoto:
    """A photo with its depth and the lens it was taken with.

    Args:
        depth, depth_kind: see `find_depth`.
        source: see `find_camera`.
        width: px to shrink it to.

    Raises:
        InputError: the photo or its depth cannot be read, or they do not fit each other.
    """
    header = photos.read_header(path)
    found = find_depth(path, depth, depth_kind, say)
    camera = find_camera(header.lens, found, source)
    device = choose_device("auto", say)
    light = light_of(photos.read_photo(path)).to(device)
    picture = DepthPhoto(light, found.depth.to(device), camera.focal_px, camera.taken)
    if width is not None:
        rows, columns = found.depth.shape
        picture = picture.resized(width, max(1, round(rows * width / columns)))
    for note in (*found.warnings, *camera.notes):
        say(note)
    return OpenedPhoto(path, picture, found, camera, 8 * header.bytes_per_value)
