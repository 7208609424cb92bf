"""Made-up panoramas: ray-traced ones of a room with six textured walls, and any function on the sphere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import wall_texture
from PIL import Image

# What 360-degree cameras write, here as attributes; the names stand in Google's Photo Sphere XMP metadata.
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {}/></rdf:RDF></x:xmpmeta>'
)
# Half the size of the room along x, y and z; its middle is the origin.
ROOM = np.array([3.0, 1.6, 2.4])


def xmp(**facts: object) -> bytes:
    """GPano metadata that say equirectangular, and more."""
    said = {"ProjectionType": "equirectangular", **facts}
    return XMP.format(" ".join(f'GPano:{name}="{value}"' for name, value in said.items())).encode()


def directions(width: int) -> np.ndarray:
    """(W / 2, W, 3) unit vectors of a panorama's pixels: x right, y down, z to its middle."""
    longitude = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude = ((np.arange(width // 2) + 0.5) / (width // 2) - 0.5) * np.pi
    longitude, latitude = np.meshgrid(longitude, latitude)
    level = np.cos(latitude)
    return np.stack([level * np.sin(longitude), np.sin(latitude), level * np.cos(longitude)], axis=-1)


def panorama_of(colour: Callable[[np.ndarray], np.ndarray], width: int) -> np.ndarray:
    """(W / 2, W, 3) uint8 of a function from (..., 3) unit vectors to (..., 3) colours in [0, 1]."""
    return np.rint(colour(directions(width)) * 255).astype(np.uint8)


def room(
    position: np.ndarray, cam_from_world: np.ndarray, width: int, blank: tuple[int, ...] = ()
) -> np.ndarray:
    """(W / 2, W, 3) uint8 panorama from a place in the room.

    Args:
        position: (3,) in the room.
        cam_from_world: (3, 3) rotation.
        blank: walls without texture, as 2 * axis, + 1 where the axis is positive.
    """
    rays = directions(width) @ cam_from_world
    with np.errstate(divide="ignore"):
        distances = (np.sign(rays) * ROOM - position) / rays
    axis = distances.argmin(axis=-1)
    place = position + rays * distances.min(axis=-1)[..., None]
    wall = 2 * axis + (np.take_along_axis(rays, axis[..., None], axis=-1)[..., 0] > 0)
    picture = np.full(rays.shape, 200.0)
    for number in set(range(6)) - set(blank):
        hit = wall == number
        picture[hit] = wall_texture(number, np.delete(place, number // 2, axis=-1)[hit] + 10)
    return picture.astype(np.uint8)


def turned(yaw: float) -> np.ndarray:
    """(3, 3) cam_from_world of a camera that stands upright and is turned to the right by `yaw` radians."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def save(path: Path, picture: np.ndarray, metadata: bytes | None, **options) -> None:
    """A JPEG of high quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=97, subsampling=0, xmp=metadata or b"", **options)
