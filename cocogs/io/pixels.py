"""Arrays of pixels: whole numbers and fractions, the area filter, and PNG files.

Arrays are numpy, (H, W, ...), uint8 or uint16, or float32 in [0, 1]. Pictures are averaged as they are
encoded, not in linear light, like the downscaled copies (images_4, ...) that benchmarks ship.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# Pixels that the area filter works on at a time: it needs up to 70 bytes for each of them.
_BLOCK = 1 << 20


def largest(pixels: np.ndarray) -> int:
    """The whole number that stands for 1: 255 or 65535."""
    return np.iinfo(pixels.dtype).max


def to_float(pixels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] of uint8 or uint16 values."""
    return pixels.astype(np.float32) / np.float32(largest(pixels))


def from_float(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """uint8 or uint16 of values in [0, 1], rounded."""
    return np.rint(np.clip(values, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def resize_area(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average over the exact area that each of the (height, width) new pixels covers; for shrinking.

    Old pixels that a new pixel's border cuts count by the fraction inside.

    Args:
        picture: (H, W, ...) float32, or uint8 or uint16, which count as fractions of 255 or 65535.

    Returns:
        (height, width, ...) float32. Beside it, memory is only needed for `width` or `height` full rows.
    """
    rows = _average_columns_apart(picture, height)
    return np.swapaxes(_average_columns_apart(np.swapaxes(rows, 0, 1), width), 0, 1)


def _average_columns_apart(picture: np.ndarray, count: int) -> np.ndarray:
    """`_average_rows` of some columns at a time, so that a huge picture needs little memory."""
    old, width = picture.shape[:2]
    step = max(1, _BLOCK // old)
    averaged = np.empty((count, *picture.shape[1:]), np.float32)
    for start in range(0, width, step):
        block = picture[:, start : start + step]
        block = block if block.dtype.kind == "f" else to_float(block)
        averaged[:, start : start + step] = _average_rows(block, count)
    return averaged


def _average_rows(picture: np.ndarray, count: int) -> np.ndarray:
    """Exact area average along axis 0, to `count` rows."""
    old = picture.shape[0]
    if old == count:
        return picture
    if old % count == 0:
        return picture.reshape(count, old // count, *picture.shape[1:]).mean(axis=1, dtype=np.float32)
    # The running sum is piecewise linear between rows, so its value at a fractional border is exact.
    total = np.zeros((old + 1, *picture.shape[1:]))
    np.cumsum(picture, axis=0, dtype=np.float64, out=total[1:])
    borders = np.arange(count + 1) * (old / count)
    whole = np.minimum(borders.astype(int), old - 1)
    fraction = (borders - whole).reshape(-1, *(1,) * (picture.ndim - 1))
    at_borders = total[whole] + fraction * picture[whole]
    return (np.diff(at_borders, axis=0) * (count / old)).astype(np.float32)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W), uint8 or uint16, as PNG. Pillow cannot write 16-bit colour."""
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
        return
    height, width = pixels.shape[:2]
    grey, rgb = 0, 2
    header = struct.pack(">IIBBBBB", width, height, 16, grey if pixels.ndim == 2 else rgb, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    no_filter = np.zeros((height, 1), np.uint8)
    data = zlib.compress(np.concatenate([no_filter, rows], axis=1).tobytes(), level=1)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
