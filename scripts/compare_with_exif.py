"""Compare a run's learned focus distances with those the camera wrote into its photos (Canon).

python scripts/compare_with_exif.py RUN    # prints the correlations, and K against the EXIF's aperture

Training never sees these distances: Canon keeps FocusDistanceUpper in its maker note, which cocogs
does not read.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy as np
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
    """FocusDistanceUpper in metres, or None where the photo has none."""
    raw = Image.open(path).info.get("exif", b"")
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


def ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort()


def main() -> int:
    parser = argparse.ArgumentParser(description="Learned focus distances against Canon's EXIF.")
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    lens = json.loads((run / "lens.json").read_text())
    source = Path(json.loads((run / "config.json").read_text())["data"]["source"])
    folder = source / "images" if (source / "images").is_dir() else source
    pairs = [(photo, canon_focus_distance(folder / photo["name"])) for photo in lens["photos"]]
    pairs = [(photo, metres) for photo, metres in pairs if metres is not None]
    if len(pairs) < 3:
        print(f"{folder}: fewer than 3 photos carry a Canon focus distance.", file=sys.stderr)
        return 2
    learned = np.array([photo["focus_distance"] for photo, _ in pairs])
    metres = np.array([metres for _, metres in pairs])
    unit = np.median(metres / learned)  # metres per scene unit
    print(f"photos                 {len(pairs)}")
    print(f"correlation            {np.corrcoef(learned, metres)[0, 1]:.3f}")
    print(f"rank correlation       {np.corrcoef(ranks(learned), ranks(metres))[0, 1]:.3f}")
    print(f"median relative error  {np.median(np.abs(learned * unit / metres - 1)):.3f} (scale fitted)")
    first = pairs[0][0]
    if first["f_number"] and first["focal_length_mm"]:
        diameter = first["focal_length_mm"] / 1000 / first["f_number"]
        print(f"aperture / EXIF's      {first['aperture_diameter'] * unit / diameter:.3f} (scale fitted)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
