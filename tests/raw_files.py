"""Small DNG files, written by hand: what a camera's sensor saw through its mosaic of colours."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# XYZ to a camera whose colours are those of linear sRGB (IEC 61966-2-1), under D65.
SRGB_CAMERA = (
    *(3.2404542, -1.5371385, -0.4985314),
    *(-0.9692660, 1.8760108, 0.0415560),
    *(0.0556434, -0.2040259, 1.0572252),
)
BLACK, WHITE = 512, 15872
RGGB = (0, 1, 1, 2)

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 12: 8}


def mosaic(
    light: np.ndarray, neutral: Sequence[float] = (1, 1, 1), pattern: Sequence[int] = RGGB
) -> np.ndarray:
    """(H, W) uint16 values of a sensor whose pixels see one colour each.

    Args:
        light: (H, W, 3) linear light in [0, 1].
        neutral: what the camera's red, green and blue say of white, largest 1.
        pattern: the colours (0, 1, 2) of the pixels of a 2x2 block, row by row.
    """
    seen = light * np.asarray(neutral)
    flat = np.empty(light.shape[:2])
    for index, color in enumerate(pattern):
        block = np.s_[index // 2 :: 2, index % 2 :: 2]
        flat[block] = seen[block][..., color]
    return np.rint(BLACK + flat * (WHITE - BLACK)).clip(0, 65535).astype(np.uint16)


def write_dng(
    path: Path,
    values: np.ndarray,
    neutral: Sequence[float] | None = (1, 1, 1),
    orientation: int = 1,
    exif: dict[int, tuple[int, Any]] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    pattern: Sequence[int] = RGGB,
    black: int = BLACK,
    model: str = "Test Camera",
) -> Path:
    """An uncompressed DNG 1.4 file of 16-bit values (Adobe, Digital Negative Specification 1.4).

    Args:
        values: (H, W) of a sensor, or (H, W, 3) "LinearRaw", as phones write it.
        neutral: the camera's white; None leaves it out.
        exif: tags of the EXIF directory: (TIFF type, value).
        crop: DefaultCrop (left, top, width, height) in px.
        pattern: as for `mosaic`.
    """
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else 3
    tags: dict[int, tuple[int, Any]] = {
        254: (4, 0),
        256: (4, width),
        257: (4, height),
        258: (3, [16] * channels),
        259: (3, 1),
        262: (3, 32803 if channels == 1 else 34892),
        271: (2, "Test"),
        272: (2, model),
        273: (4, 0),
        274: (3, orientation),
        277: (3, channels),
        278: (4, height),
        279: (4, values.size * 2),
        284: (3, 1),
        50706: (1, [1, 4, 0, 0]),
        50708: (2, model),
        50714: (3, [black] * channels),
        50717: (3, [WHITE] * channels),
        50721: (10, SRGB_CAMERA),
        50778: (3, 21),
    }
    if channels == 1:
        tags |= {33421: (3, [2, 2]), 33422: (1, pattern), 50710: (1, [0, 1, 2]), 50711: (3, 1)}
    if neutral is not None:
        tags[50728] = (5, neutral)
    if crop is not None:
        tags |= {50719: (4, crop[:2]), 50720: (4, crop[2:])}
    if exif:
        tags[34665] = (4, 0)
    # Twice: the second time it is known where the directories lie.
    directory, inner = b"", b""
    for _ in range(2):
        place = 8 + len(directory)
        if exif:
            tags[34665] = (4, place)
            inner = _directory(exif, place)
        tags[273] = (4, place + len(inner))
        directory = _directory(tags, 8)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + inner + values.astype("<u2").tobytes())
    return path


def _directory(tags: dict[int, tuple[int, Any]], place: int) -> bytes:
    """A TIFF directory that lies at byte `place`, and the values that it points to."""
    entries, beyond = b"", b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        data = _packed(kind, value)
        entries += struct.pack("<HHI", tag, kind, len(data) // _SIZES[kind])
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", start + len(beyond))
            beyond += data + b"\0" * (len(data) % 2)
    return struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + beyond


def _packed(kind: int, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode() + b"\0"
    if isinstance(value, bytes):
        return value
    values = list(value) if isinstance(value, Sequence) else [value]
    if kind in (5, 10):
        return b"".join(struct.pack("<ii", round(float(v) * 1000000), 1000000) for v in values)
    return struct.pack(f"<{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
