"""Are metres by EXIF right? Scenes of known truth, whose photos are given the EXIF of the true lens.

python scripts/check_metres.py SCENE... --out DIR [--distances] [-- OPTIONS OF cocogs train]

SCENE is data/demo, or what scripts/make_truth_scene.py wrote; its truth is in metres. DIR/NAME becomes a copy
with EXIF, DIR/runs/NAME the run. Prints the learned length of a scene unit over the true one.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

FOCAL_LENGTH = 50.0  # mm; where the truth does not name the lens


def give_exif(scene: Path, folder: Path, distances: bool = False) -> Path:
    """Copy a scene; its photos say what lens took them.

    Args:
        distances: also what they were focused on.
    """
    shutil.copytree(scene, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("depth", "sharp"))
    truth, base = json.loads((scene / "truth.json").read_text()), ExifTags.Base
    focal_length = truth.get("focal_length_mm", FOCAL_LENGTH)
    f_number = focal_length / 1000 / truth["aperture_diameter"]
    for frame in truth["frames"]:
        tags = {base.FocalLength: _rational(focal_length), base.FNumber: _rational(f_number)}
        if distances and frame["focus_distance"] is not None:
            tags[base.SubjectDistance] = _rational(frame["focus_distance"])
        exif, path = Image.Exif(), folder / "images" / frame["name"]
        exif[ExifTags.IFD.Exif] = tags
        with Image.open(path) as image:
            image.load()
            image.save(path, exif=exif)
    return folder


def _rational(value: float) -> IFDRational:
    return IFDRational(round(1000 * value), 1000)


def _cocogs(*words: str) -> str:
    command = [sys.executable, "-m", "cocogs", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(scene: Path, folder: Path, distances: bool, options: list[str]) -> tuple[float, dict]:
    """Train on a copy with EXIF; returns metres in a unit over the truth, and lens.json."""
    data, run = folder / scene.name, folder / "runs" / scene.name
    give_exif(scene, data, distances)
    _cocogs("train", str(data), "--out", str(run), *options)
    report = json.loads(_cocogs("eval", str(run), "--truth", "--json"))
    ratio = (report["metres_per_unit"] or float("nan")) / report["truth"]["unit"]
    return ratio, json.loads((run / "lens.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description="Metres by EXIF against the truth.")
    parser.add_argument("scenes", type=Path, nargs="+", metavar="SCENE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--distances", action="store_true", help="EXIF also tells the focus distances")
    arguments, options = parser.parse_known_args()
    for scene in arguments.scenes:
        ratio, lens = measure(scene, arguments.out, arguments.distances, [o for o in options if o != "--"])
        print(f"{scene.name}: {ratio:.3f} of the truth; {json.dumps(lens['metres'])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
