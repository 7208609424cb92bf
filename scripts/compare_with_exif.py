"""Compare a run's learned focus distances with those the camera wrote into its photos (Canon).

python scripts/compare_with_exif.py RUN    # prints the correlations, and K against the EXIF's aperture

Training itself believes these distances where they agree with the photos (docs/method.md), so this tells how
well it could follow both. What it learns of photos that tell nothing: scripts/eval_focus.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from cocogs.io.folders import photo_folder
from cocogs.io.lens_file import read_lens_file
from cocogs.io.photos import read_header
from cocogs.run import read_config


def ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort()


def main() -> int:
    parser = argparse.ArgumentParser(description="Learned focus distances against Canon's EXIF.")
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    lens = read_lens_file(run / "lens.json")
    folder = photo_folder(Path(read_config(run)[1].source))
    photos = [photo for photo in lens.photos if not photo.is_test and photo.lens is not None]
    pairs = [(photo, read_header(folder / photo.name).lens.focus_distance) for photo in photos]
    pairs = [(photo, metres) for photo, metres in pairs if metres is not None]
    if len(pairs) < 3:
        print(f"{folder}: fewer than 3 photos carry a Canon focus distance.", file=sys.stderr)
        return 2
    learned = np.array([photo.lens.focus_distance for photo, _ in pairs if photo.lens is not None])
    metres = np.array([metres for _, metres in pairs])
    unit = np.median(metres / learned)  # metres per scene unit
    print(f"photos                 {len(pairs)}")
    print(f"correlation            {np.corrcoef(learned, metres)[0, 1]:.3f}")
    print(f"rank correlation       {np.corrcoef(ranks(learned), ranks(metres))[0, 1]:.3f}")
    print(f"median relative error  {np.median(np.abs(learned * unit / metres - 1)):.3f} (scale fitted)")
    first = pairs[0][0]
    if first.lens is not None and first.f_number and first.focal_length_mm:
        diameter = first.focal_length_mm / 1000 / first.f_number
        print(f"aperture / EXIF's      {first.lens.aperture_diameter * unit / diameter:.3f} (scale fitted)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
