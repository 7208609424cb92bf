"""What cameras write into their own part of a photo's EXIF: Canon's focus distance."""

import struct
from pathlib import Path

from PIL import Image

EXIF_IFD, MAKER_NOTE, SHOT_INFO = 0x8769, 0x927C, 0x0004
FOCUS_DISTANCE_UPPER = 19  # index into ShotInfo's 16-bit numbers, in cm


def read_ifd(tiff: bytes, offset: int, order: str) -> dict[int, tuple[int, int, int]]:
    """Entries of a TIFF directory: tag -> (type, count, position of the value or of its offset)."""
    (count,) = struct.unpack_from(order + "H", tiff, offset)
    entries = {}
    for index in range(count):
        position = offset + 2 + 12 * index
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, position)
        entries[tag] = kind, number, position + 8
    return entries


def canon_focus_distance(path: Path) -> float | None:
    """FocusDistanceUpper in metres, or None where the photo has none, or is not there."""
    try:
        with Image.open(path) as image:
            raw = image.info.get("exif", b"")
    except OSError:
        return None
    if not raw.startswith(b"Exif\0\0"):
        return None
    tiff = raw[6:]
    order = "<" if tiff[:2] == b"II" else ">"

    def pointer(position: int) -> int:
        return struct.unpack_from(order + "I", tiff, position)[0]

    try:
        main = read_ifd(tiff, pointer(4), order)
        exif = read_ifd(tiff, pointer(main[EXIF_IFD][2]), order)
        note = read_ifd(tiff, pointer(exif[MAKER_NOTE][2]), order)
        start = pointer(note[SHOT_INFO][2])
        (centimetres,) = struct.unpack_from(order + "H", tiff, start + 2 * FOCUS_DISTANCE_UPPER)
    except (KeyError, struct.error):
        return None
    return centimetres / 100 or None
