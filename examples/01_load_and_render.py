"""Load a trained run and draw one of its views sharp, as a PNG.

python examples/01_load_and_render.py RUN [OUT]    # RUN: what `cocogs train --out` wrote, such as runs/demo
"""

import sys
from pathlib import Path

from cocogs import Lens, load_run, refocus
from cocogs.io.pictures import write_png

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "pictures")
run = load_run(folder)
view = run.scene.views[0]

# An aperture of 0 is a pinhole: everything is sharp, whatever the focus.
picture = refocus(run.model.gaussians, view.camera, Lens(focus_distance=1.0, aperture_diameter=0.0))
print(f"{view.name}: {tuple(picture.shape)} in [0, 1], sRGB; {len(run.model.gaussians):,} Gaussians")
write_png(picture, out / "sharp.png")
