"""How well `estimate_by_lines` does on the photos of `make_rooms.py`.

    python scripts/measure_lines.py rooms/test [--photos photo|sharp|blurred] [--each]

e_f is the larger relative error of fx and fy; e_b the larger of 2 |dcx| / width and 2 |dcy| / height.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cocogs.calibrate.lines import LinesFound, estimate_by_lines


def measure(folder: Path, photos: str, each: bool) -> list[dict]:
    rows = []
    for truth in json.loads((folder / "truth.json").read_text())["photos"]:
        path = folder / (truth["photo"] if photos == "photo" else f"{photos}/{truth['name']}")
        pixels = np.asarray(Image.open(path).convert("RGB"))
        start = time.process_time()
        found = estimate_by_lines(pixels)
        seconds = time.process_time() - start
        row = {
            "name": truth["name"],
            "shows": truth["shows"],
            "cropped": truth["cropped"],
            "seconds": seconds,
        }
        row["view"] = float(np.degrees(2 * np.arctan(truth["size"][0] / 2 / truth["fx"])))
        if isinstance(found, LinesFound):
            lens, (width, height) = found.lens, truth["size"]
            error = lens.focal[0] / truth["fx"] - 1
            off = [(lens.center[i] - truth[("cx", "cy")[i]]) for i in (0, 1)]
            row |= {"e_f": abs(error), "e_b": max(2 * abs(off[0]) / width, 2 * abs(off[1]) / height)}
            row["in_sigma"] = error * lens.focal[0] / lens.focal_deviation[0] / (1 + error)
            row["center_in_sigma"] = [
                o / s for o, s in zip(off, lens.center_deviation, strict=True) if np.isfinite(s)
            ]
            told = f"f {error:+.1%} of {lens.relative_deviation:.1%}  e_b {row['e_b']:.3f}  {lens.basis}"
        else:
            told = found.reason
        if each:
            kind = ("cropped " if truth["cropped"] else "") + truth["shows"]
            print(
                f"{path.parent.name[0]} {truth['name'][:2]} {row['view']:4.0f} {kind:<20} {seconds:4.1f} s",
                told,
            )
        rows.append(row)
    return rows


def summary(rows: list[dict]) -> str:
    told = [r for r in rows if "e_f" in r]
    if not told:
        return f"no answer on {len(rows)} photos"
    errors, centers = np.array([r["e_f"] for r in told]), np.array([r["e_b"] for r in told])
    sigmas = np.abs([r["in_sigma"] for r in told])
    off = np.abs([s for r in told for s in r["center_in_sigma"]])
    within = [f"{np.mean(sigmas < s):.0%}" for s in (1, 2, 3)]
    around = [f"{np.mean(off < s):.0%}" for s in (1, 2, 3)] if len(off) else []
    return (
        f"answers {len(told)} of {len(rows)}; "
        f"e_f median {np.median(errors):.4f}, 90 % {np.quantile(errors, 0.9):.4f}; "
        f"off by more than 30 %: {np.sum(errors > 0.3)}; e_b median {np.median(centers):.3f}, "
        f"90 % {np.quantile(centers, 0.9):.3f}; focal within 1, 2, 3 sigma {' '.join(within)} "
        f"(rms {np.sqrt(np.mean(sigmas**2)):.2f}), centre {' '.join(around)} of {len(off)}; "
        f"{np.median([r['seconds'] for r in rows]):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", choices=("photo", "sharp", "blurred"), default="photo")
    parser.add_argument("--each", action="store_true", help="a line per photo")
    args = parser.parse_args()
    rows = measure(args.folder, args.photos, args.each)
    print(summary(rows))
    for name, chosen in (("whole", False), ("cropped", True)):
        print(f"{name}: {summary([r for r in rows if r['cropped'] == chosen])}")


if __name__ == "__main__":
    main()
