"""Draw a view through a lens of your own: focus on what lies in the middle, open twice as wide as the photos.

python examples/02_refocus.py RUN [OUT]
"""

import sys
from pathlib import Path

from cocogs import Lens, depth_at, load_run, refocus
from cocogs.io.pictures import write_png

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "pictures")
run = load_run(folder)
camera, gaussians = run.scene.views[0].camera, run.model.gaussians

learned = run.lens()  # the photos' lens, as training found it
middle = depth_at(gaussians, camera, camera.width / 2, camera.height / 2)
lens = Lens(
    focus_distance=middle, aperture_diameter=2 * learned.aperture_diameter, blades=6, blade_rotation=15
)
print(f"learned: {learned}\nset: {lens}")

write_png(refocus(gaussians, camera, lens), out / "quick.png")  # one render
write_png(refocus(gaussians, camera, lens, samples=64), out / "final.png")  # 64 points of the lens
