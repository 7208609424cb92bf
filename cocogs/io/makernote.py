"""What cameras write into their own part of a photo's EXIF: Canon's focus distance."""

import struct

EXIF_IFD, MAKER_NOTE, SHOT_INFO = 0x8769, 0x927C, 0x0004
FOCUS_DISTANCE_UPPER = 19  # index into ShotInfo's 16-bit numbers, in cm
INFINITY = 0xFFFF


def read_ifd(tiff: bytes, offset: int, order: str) -> dict[int, tuple[int, int, int]]:
    """Entries of a TIFF directory: tag -> (type, count, position of the value or of its offset)."""
    (count,) = struct.unpack_from(order + "H", tiff, offset)
    entries = {}
    for index in range(count):
        position = offset + 2 + 12 * index
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, position)
        entries[tag] = kind, number, position + 8
    return entries


def canon_focus_distance(exif: bytes) -> float | None:
    """FocusDistanceUpper in metres, None where there is none or it is infinity; `exif` as it stands in a
    JPEG."""
    if not exif.startswith(b"Exif\0\0"):
        return None
    tiff = exif[6:]
    order = "<" if tiff[:2] == b"II" else ">"

    def pointer(position: int) -> int:
        return struct.unpack_from(order + "I", tiff, position)[0]

    try:
        main = read_ifd(tiff, pointer(4), order)
        photo = read_ifd(tiff, pointer(main[EXIF_IFD][2]), order)
        note = read_ifd(tiff, pointer(photo[MAKER_NOTE][2]), order)
        start = pointer(note[SHOT_INFO][2])
        (centimetres,) = struct.unpack_from(order + "H", tiff, start + 2 * FOCUS_DISTANCE_UPPER)
    except (KeyError, struct.error):
        return None
    # Neither 0, unknown, nor the largest number, infinity, is a length.
    return centimetres / 100 if 0 < centimetres < INFINITY else None
