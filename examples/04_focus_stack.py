"""A focus stack: one view, focused at many depths from the nearest to the farthest, evenly in 1/z.

python examples/04_focus_stack.py RUN [OUT]
"""

import sys
from pathlib import Path

import torch

from cocogs import Lens, load_run, refocus
from cocogs.io.pictures import write_png
from cocogs.render.refocusing import sharp_depth

SLICES = 8

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "pictures")
run = load_run(folder)
camera, gaussians = run.scene.views[0].camera, run.model.gaussians

depth = sharp_depth(gaussians, camera)
near, far = depth[depth.isfinite()].quantile(torch.tensor([0.02, 0.98])).tolist()
aperture = run.lens().aperture_diameter
for index in range(SLICES):
    share = index / (SLICES - 1)
    focus_distance = 1 / ((1 - share) / near + share / far)  # blur changes evenly from slice to slice
    picture = refocus(gaussians, camera, Lens(focus_distance, aperture), samples=32)
    write_png(picture, out / f"stack_{index}.png")
    print(f"stack_{index}.png is focused at {focus_distance:.3g} scene units")
