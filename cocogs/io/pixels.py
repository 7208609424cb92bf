"""Arrays of pixels: whole numbers and fractions, the area filter, and PNG files.

Arrays are numpy, (H, W, ...), uint8 or uint16, or float32 in [0, 1]. Pictures are averaged as they are
encoded, not in linear light, like the downscaled copies (images_4, ...) that benchmarks ship.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Values that the area filter works on at a time: it needs up to 12 bytes for each of them.
_BLOCK = 1 << 22


def largest(pixels: np.ndarray) -> int:
    """The whole number that stands for 1: 255 or 65535."""
    return np.iinfo(pixels.dtype).max


def keys_cubic(distance: Any) -> tuple[Any, Any]:
    """Weights of cubic convolution (Keys 1981, a = -1/2) at distances of up to 1, and from 1 to 2 (px); of a
    number, an array or a tensor."""
    t = distance
    return (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2


def to_float(pixels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] of uint8 or uint16 values."""
    values = pixels.astype(np.float32)
    values /= np.float32(largest(pixels))
    return values


def from_float(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """uint8 or uint16 of values in [0, 1], rounded."""
    pixels = np.empty(values.shape, dtype)
    step = max(1, _BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), step):  # beside the two arrays memory for some rows
        rows = slice(start, start + step)
        pixels[rows] = np.rint(np.clip(values[rows], 0, 1) * np.iinfo(dtype).max)
    return pixels


def resize_area(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average over the exact area that each of the (height, width) new pixels covers; for shrinking.

    Old pixels that a new pixel's border cuts count by the fraction inside.

    Args:
        picture: (H, W, ...) float32, or uint8 or uint16, which count as fractions of 255 or 65535.

    Returns:
        (height, width, ...) float32. Beside it, memory is only needed for some rows of the picture.
    """
    old_height, old_width, *rest = picture.shape
    averaged = np.empty((height, width, *rest), np.float32)
    step = max(1, _BLOCK // picture[0].size)
    for top in range(0, height, step):
        rows = _average_rows(picture.reshape(old_height, -1), height, range(top, min(top + step, height)))
        columns = rows.reshape(len(rows), old_width, -1).swapaxes(0, 1)
        columns = _average_rows(columns.reshape(old_width, -1), width, range(width))
        averaged[top : top + len(rows)] = columns.reshape(width, len(rows), *rest).swapaxes(0, 1)
    return averaged


def _average_rows(picture: np.ndarray, count: int, wanted: range) -> np.ndarray:
    """(len(wanted), N) float32: some of the `count` rows that an (H, N) picture's rows are averaged to."""
    old = len(picture)
    if old == count:
        return _fractions(picture[wanted.start : wanted.stop])
    averaged = np.zeros((len(wanted), picture.shape[1]), np.float32)
    part = np.empty_like(averaged[0])
    for total, index in zip(averaged, wanted, strict=True):
        top, bottom = index * old / count, (index + 1) * old / count
        for row in range(int(top), min(math.ceil(bottom), old)):
            share = (min(row + 1, bottom) - max(row, top)) / (bottom - top)
            np.multiply(_fractions(picture[row]), np.float32(share), out=part)
            total += part
    return averaged


def _fractions(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype.kind == "f" else to_float(pixels)


def write_png(path: Path, pixels: np.ndarray, exif: bytes = b"") -> None:
    """Write (H, W, 3) or (H, W), uint8 or uint16, as PNG, perhaps with a block of EXIF. Pillow cannot write
    16-bit colour."""
    if pixels.dtype == np.uint8:
        options: dict[str, Any] = {"exif": exif} if exif else {}
        Image.fromarray(pixels).save(path, format="PNG", compress_level=1, **options)
        return
    height, width = pixels.shape[:2]
    grey, rgb = 0, 2
    header = struct.pack(">IIBBBBB", width, height, 16, grey if pixels.ndim == 2 else rgb, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    no_filter = np.zeros((height, 1), np.uint8)
    data = zlib.compress(np.concatenate([no_filter, rows], axis=1).tobytes(), level=1)
    facts = [png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    chunks = [png_chunk(b"IHDR", header), *facts, png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
