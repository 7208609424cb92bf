"""The pixels of a bracket on the disk: written slice by slice, read slice by slice or tile by tile."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io import photos
from cocogs.io.atomic import NoRoom, scratch
from cocogs.io.pixels import largest, resize_area
from cocogs.photo.bracket import Bracket
from cocogs.srgb import to_linear

SPARE = 1 << 28  # bytes of the disk that stay free


class Slices:
    """(S, H, W, 3) sRGB-encoded uint8 or uint16 in a file.

    It is written with plain calls, since a mapped file kills the process when the disk is full, and mapped
    to be read.
    """

    def __init__(self, path: Path, count: int, height: int, width: int, dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, (count, height, width, 3), np.dtype(dtype)
        self._bytes = height * width * 3 * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def write(self, index: int, pixels: np.ndarray) -> None:
        """Put one slice, (H, W, 3) of 8 or 16 bits. Raises OSError where the disk is full."""
        deep = pixels
        if pixels.dtype != self.dtype:  # 8 bits among slices of 16
            deep = pixels.astype(self.dtype) * (largest(np.empty(0, self.dtype)) // largest(pixels))
        with self.path.open("r+b") as file:
            file.seek(index * self._bytes)
            file.write(np.ascontiguousarray(deep).data)

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3) of one slice."""
        values = np.fromfile(
            self.path, self.dtype, self._bytes // self.dtype.itemsize, offset=index * self._bytes
        )
        return values.reshape(self.shape[1:])

    def tile(self, rows: slice, columns: slice) -> np.ndarray:
        """(S, h, w, 3) of all slices."""
        return np.array(np.memmap(self.path, self.dtype, "r", shape=self.shape)[:, rows, columns])


@contextmanager
def slices_beside(out: Path, bracket: Bracket) -> Iterator[Slices]:
    """Room for a bracket in a temporary file beside `out`.

    Raises:
        InputError: the folder cannot be written, or has too little room.
    """
    dtype = np.dtype(np.uint8 if bracket.bytes_per_value == 1 else np.uint16)
    needed = len(bracket.paths) * bracket.height * bracket.width * 3 * dtype.itemsize
    with scratch(out) as path:
        if needed + SPARE > (free := shutil.disk_usage(path.parent).free):
            raise NoRoom(
                f"The slices take {needed / 1e9:.1f} GB beside {out} while they are stacked, and "
                f"{free / 1e9:.1f} GB are free: free space, or let `out` lie on another disk."
            )
        yield Slices(path, len(bracket.paths), bracket.height, bracket.width, dtype)


def read_slice(path: Path, bracket: Bracket) -> np.ndarray:
    """(H, W, 3) of a photo of the bracket."""
    pixels = photos.read_photo(path)
    assert pixels.shape == (bracket.height, bracket.width, 3)
    return pixels


def light_of_codes(dtype: np.dtype) -> np.ndarray:
    """float32 linear light of each pixel value, 0 to 255 or 65535."""
    most = np.iinfo(dtype).max
    return to_linear(torch.arange(most + 1, dtype=torch.float64) / most).float().numpy()


def light_of(pixels: np.ndarray) -> Float[Tensor, "3 H W"]:
    """Linear light of a photo's pixels, (H, W, 3) of 8 or 16 bit."""
    return torch.from_numpy(light_of_codes(pixels.dtype)[np.moveaxis(pixels, -1, 0)])


def reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    """(h, w, C) float32 in [0, 1], averaged to at most `longest` px on the longer side."""
    height, width = pixels.shape[:2]
    part = max(1.0, max(height, width) / longest)
    return resize_area(pixels, max(1, round(width / part)), max(1, round(height / part)))
