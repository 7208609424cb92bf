"""The depth of a view, as numbers and in colour, and the circles of confusion that a lens makes of it.

python examples/03_depth.py RUN [OUT]
"""

import sys
from pathlib import Path

from cocogs import load_run
from cocogs.io.pictures import write_png
from cocogs.optics.maps import colored_coc, colored_depth
from cocogs.render.refocusing import sharp_depth

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "pictures")
run = load_run(folder)
camera = run.scene.views[0].camera

depth = sharp_depth(run.model.gaussians, camera)  # (H, W) scene units, infinite where nothing is
seen = depth.isfinite()
print(f"depths from {float(depth[seen].min()):.3g} to {float(depth[seen].max()):.3g} scene units")
write_png(colored_depth(depth), out / "depth.png")

coc = run.lens().of(camera).coc(depth)  # (H, W) diameters in px; nearer than the focus is positive
print(f"circles of confusion of up to {float(coc[seen].abs().max()):.1f} px")
write_png(colored_coc(coc, seen.float()), out / "coc.png")
