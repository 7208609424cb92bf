"""Compare a run's learned lens with a ray-traced scene's true one.

python scripts/compare_with_truth.py RUN SCENE    # SCENE holds truth.json (as data/demo does)

The run's scale comes from its cameras: the ratio of the spreads of camera positions.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from cocogs.run import load_run


def spread(positions: np.ndarray) -> float:
    return float(np.linalg.norm(positions - positions.mean(0), axis=1).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description="The learned lens against the true one.")
    parser.add_argument("run", type=Path)
    parser.add_argument("scene", type=Path)
    arguments = parser.parse_args()
    truth = json.loads((arguments.scene / "truth.json").read_text())
    frames = {frame["name"]: frame for frame in truth["frames"]}
    scene = load_run(arguments.run).scene
    poses = [np.array(frames[view.name]["w2c"]) for view in scene.views]
    true_positions = np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])
    positions = np.array([view.camera.position.tolist() for view in scene.views])
    unit = spread(true_positions) / spread(positions)  # true units per unit of the run
    photos = json.loads((arguments.run / "lens.json").read_text())["photos"]
    errors = [abs(1 / (p["focus_distance"] * unit) - 1 / frames[p["name"]]["focus_distance"]) for p in photos]
    relative = [abs(p["focus_distance"] * unit / frames[p["name"]]["focus_distance"] - 1) for p in photos]
    print(
        f"focus: mean |1/z_f - truth| {np.mean(errors):.4f}, median relative error {np.median(relative):.4f}"
    )
    if photos[0]["aperture_diameter"] is not None:
        ratio = np.mean([p["aperture_diameter"] for p in photos]) * unit / truth["aperture_diameter"]
        print(f"aperture / truth: {ratio:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
