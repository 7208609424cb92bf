"""How a panorama is cut into faces: which way each face looks, and where its pixels lie in the panorama.

A panorama is a 360-degree photo in the equirectangular projection, twice as wide as high. Its columns are
longitudes, -180 to 180 degrees from left to right; its rows are latitudes, from straight up to straight down.
Seen from its centre, x points right, y down and z into the picture's middle, as for all our cameras.

A face is a pinhole picture of 90 x 90 degrees. The six faces show each direction once.
"""

import math

import numpy as np
import torch

from cocogs.io.photos import from_float, resize_area, to_float
from cocogs.io.source import Intrinsics
from cocogs.io.undistort import sampled

# The (3, 3) rotation from the panorama's axes to the face's: its rows are the face's right, down and forward.
FACES = {
    "front": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "right": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]]),
    "back": np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),
    "left": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
    "up": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "down": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
# A face's pixel is the mean of FINE x FINE samples. Without them, the middle of a face, whose pixels are 1.27
# times as wide as the panorama's, would alias.
FINE = 2
# Samples of a face that are worked on at a time; each takes some 100 bytes.
_BLOCK = 1 << 20
_BORDER = 2  # px around what is sampled, for bicubic sampling


def face_size(width: int) -> int:
    """Side of a face in px, for a panorama of this width. Its pixels are about as many as the panorama's."""
    return round(width / 4)


def face_lens(size: int) -> Intrinsics:
    """The pinhole camera of a face: 90 degrees wide."""
    return Intrinsics("PINHOLE", size, size, (size / 2, size / 2, size / 2, size / 2))


def cut_face(panorama: np.ndarray, face: str, size: int) -> np.ndarray:
    """(size, size, C) pinhole picture of a face, of the panorama's dtype.

    Sampling is bicubic, across the panorama's left and right border and across its poles.

    Args:
        panorama: (H, W, C) uint8 or uint16.
        face: a name in FACES.
    """
    picture = np.empty((size, size, panorama.shape[2]), panorama.dtype)
    step = max(1, _BLOCK // (FINE * FINE * size))
    for top in range(0, size, step):
        bottom = min(top + step, size)
        x, y = places(face, size, range(top, bottom), panorama.shape[1], panorama.shape[0])
        strip = resize_area(_sample(panorama, x, y), size, bottom - top)
        picture[top:bottom] = from_float(strip, panorama.dtype)
    return picture


def places(face: str, size: int, rows: range, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the samples of some rows of a face lie in a panorama.

    Returns:
        x and y, each (FINE * len(rows), FINE * size) float64, px from the panorama's upper left corner. x
        runs on beyond the left or the right border where the face lies across it.
    """
    across = ((np.arange(FINE * size) + 0.5) / (FINE * size) - 0.5) * 2
    down = ((np.arange(FINE * rows.start, FINE * rows.stop) + 0.5) / (FINE * size) - 0.5) * 2
    ray = across[None], down[:, None], np.ones((1, 1))
    turn = FACES[face]
    # Left out is what is 0, so that what only depends on the column is computed for one row.
    right, below, forward = (
        sum(turn[k, axis] * ray[k] for k in range(3) if turn[k, axis] != 0) for axis in range(3)
    )
    yaw = math.atan2(turn[2, 0], turn[2, 2])  # where the face looks; `turn`'s last row is its forward
    longitude = np.arctan2(right, forward)
    if turn[2, 1] == 0:  # then within 45 degrees of there
        longitude = (longitude - yaw + math.pi) % (2 * math.pi) - math.pi + yaw
    latitude = np.arctan2(below, np.hypot(right, forward))
    x, y = (longitude / (2 * math.pi) + 0.5) * width, (latitude / math.pi + 0.5) * height
    shape = (len(down), len(across))
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def _sample(panorama: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(h, w, C) float32 in [0, 1], bicubic, at places from `places`."""
    left, right = math.floor(x.min()) - _BORDER, math.ceil(x.max()) + _BORDER
    top, bottom = math.floor(y.min()) - _BORDER, math.ceil(y.max()) + _BORDER
    window = to_float(_window(panorama, range(top, bottom), range(left, right)))
    grid = np.empty((*x.shape, 2), np.float32)
    grid[..., 0] = (x - left) * (2 / (right - left)) - 1
    grid[..., 1] = (y - top) * (2 / (bottom - top)) - 1
    samples = sampled(torch.from_numpy(window).permute(2, 0, 1), torch.from_numpy(grid))
    return samples.permute(1, 2, 0).numpy().clip(0, 1)


def _window(panorama: np.ndarray, rows: range, columns: range) -> np.ndarray:
    """A part of the panorama, which goes on beyond its borders: on its other side beyond the left and the
    right one, on the far side of the pole, turned by half a circle, beyond the upper and the lower one."""
    height, width = panorama.shape[:2]
    row = np.arange(rows.start, rows.stop)
    mirrored = np.where(row < 0, -1 - row, np.where(row >= height, 2 * height - 1 - row, row))
    column = np.arange(columns.start, columns.stop) + (mirrored != row)[:, None] * (width // 2)
    return panorama[mirrored[:, None], column % width]
