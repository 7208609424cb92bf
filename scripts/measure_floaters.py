"""Measures `floaters` of `cocogs edit --select` against true depth.

    python scripts/measure_floaters.py scenes/tabletop RUN [--json FILE]
    python scripts/measure_floaters.py tiles RUN --depth-of SHARP_RUN

TRUTH is a folder by `make_truth_scene.py`, RUN was trained on it. Where TRUTH has no folder depth/, depth is
that of SHARP_RUN, which was trained on sharp photos from the same cameras.

A splat is floating by the truth if it lies, in most photos that show its place, in front of the true surface
by more than 5 % of the depth and more than two of its largest deviations, and in none so close to it. The
nearest and the farthest surface within 2 px of its place count, so that edges make no floaters. Where fewer
than three photos show the place, they hardly tell how far away it is: such floaters are counted apart, and
not among the others.

Measured as trained, and with splats planted into empty space: small and large, faint and half solid.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.edit.floaters import floaters
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, sh0_of
from cocogs.io.atomic import write_text
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import refocus, sharp_depth
from cocogs.run import Run, load_run
from cocogs.train.losses import picture_psnr

CLEAR = 0.05  # of the depth
SIGMAS = 2.0
WINDOW = 5  # px
FEWEST = 3  # photos

Looks = list[tuple[Camera, Float[Tensor, "H W"]]]
"""Cameras, and the true depth that each sees, scene units."""


def floating(gaussians: Gaussians, looks: Looks, fewest: int = FEWEST) -> Bool[Tensor, " N"]:
    """The splats that float by the truth, at places that at least `fewest` photos show."""
    means, size = gaussians.means.detach(), gaussians.scales.detach().exp().amax(1)
    shown, front, near = torch.zeros(3, len(means), dtype=torch.long)
    for camera, depth in looks:
        nearest, z, shows = camera.looked_up(means, -farthest_around(-depth))
        farthest, _, _ = camera.looked_up(means, farthest_around(depth))
        in_front = z < nearest - torch.maximum(CLEAR * nearest, SIGMAS * size)
        behind = z > farthest + torch.maximum(CLEAR * farthest, SIGMAS * size)
        shown += shows
        front += shows & in_front
        near += shows & ~in_front & ~behind
    return (2 * front > shown) & (near == 0) & (shown >= fewest)


def farthest_around(depth: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    return F.max_pool2d(depth[None], WINDOW, stride=1, padding=WINDOW // 2)[0]


def planted(gaussians: Gaussians, looks: Looks, count: int, seed: int) -> Gaussians:
    """Splats in empty space: at .2 to .8 of the depth of random pixels, and floating by the truth.

    They are a third to three times as wide as the scene's median, and their opacity is in [.05, .5].
    """
    random = torch.Generator().manual_seed(seed)
    places = []
    for _ in range(8 * count):
        camera, depth = looks[int(torch.randint(len(looks), (), generator=random))]
        x, y, part = torch.rand(3, generator=random)
        pixel = torch.stack([x * camera.width, y * camera.height])
        z = (0.2 + 0.6 * part) * depth[int(pixel[1]), int(pixel[0])]
        if z.isfinite() and z > camera.near:
            places.append(camera.unproject(pixel, z))
    number = len(places)
    colors = torch.rand(number, 3, generator=random)
    some = Gaussians.from_points(torch.stack(places), colors, gaussians.antialiased)
    usual = float(gaussians.scales.detach().amax(1).median())
    width = usual + math.log(1 / 3) + math.log(9) * torch.rand(number, 1, generator=random)
    raw = {name: getattr(some, name).detach() for name in Gaussians.names}
    raw["scales"] = width + torch.zeros(number, 3)
    raw["opacities"] = (0.05 + 0.45 * torch.rand(number, generator=random)).logit()
    raw["sh0"] = sh0_of(colors)
    some = Gaussians(gaussians.antialiased, **raw)
    return some[floating(some, looks).nonzero()[:count, 0]]


def measure(run: Run, gaussians: Gaussians, looks: Looks, only: slice = slice(None)) -> dict[str, float]:
    """What `floaters` takes of a scene.

    Args:
        only: those of the splats that float by the truth which count as floating.
    """
    counted = torch.zeros(len(gaussians), dtype=torch.bool)
    counted[only] = True
    true, every = (floating(gaussians, looks, fewest) for fewest in (FEWEST, 1))
    found, unsure = floaters(gaussians, [camera for camera, _ in looks]), every & ~true & counted
    return {
        "splats": len(gaussians),
        "floating": int((true & counted).sum()),
        "found": share(found, true & counted),
        "unsure": int(unsure.sum()),
        "of_unsure": share(found, unsure),
        "of_others": share(found, ~every),
        "psnr": test_psnr(run, gaussians),
        "psnr_without": test_psnr(run, gaussians[(~found).nonzero()[:, 0]]),
        "psnr_without_true": test_psnr(run, gaussians[(~true).nonzero()[:, 0]]),
    }


def share(some: Bool[Tensor, " N"], of: Bool[Tensor, " N"]) -> float:
    """The share of some among others; 0 where there are none."""
    return float((some & of).sum() / of.sum().clamp_min(1))


def test_psnr(run: Run, gaussians: Gaussians) -> float:
    """Mean over the sharp test views, dB."""
    views = [view for view in run.scene.views if view.is_test]
    lens = Lens(focus_distance=1.0, aperture_diameter=0.0)
    scores = [
        picture_psnr(refocus(gaussians, run.model.camera(view), lens).cpu(), run.scene.photo(view))
        for view in views
    ]
    return sum(scores) / len(scores)


def true_looks(truth: Path, run: Run, sharp: Run | None) -> Looks:
    """Raises InputError where there is no depth."""
    looks = []
    for view in run.scene.views:
        camera, file = run.model.camera(view), truth / "depth" / f"{Path(view.name).stem}.npy"
        if sharp is not None:
            depth = sharp_depth(sharp.model.gaussians, sharp_camera(sharp, view.name))
        elif file.is_file():
            depth = torch.from_numpy(np.load(file)).float()
        else:
            raise InputError(f"{file} is missing: give with --depth-of a run trained on sharp photos.")
        looks.append((camera, depth))
    return looks


def sharp_camera(run: Run, name: str) -> Camera:
    for view in run.scene.views:
        if view.name == name:
            return run.model.camera(view)
    raise InputError(f"{run.folder} has no photo {name}: train it on photos of the same names.")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--depth-of", type=Path, metavar="SHARP_RUN")
    parser.add_argument("--planted", type=int, default=1000, help="splats planted into empty space")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    run = load_run(args.run, edited=False)
    looks = true_looks(args.truth, run, args.depth_of and load_run(args.depth_of, edited=False))
    scene = run.model.gaussians
    more = planted(scene, looks, args.planted, seed=0)
    result = {
        "as trained": measure(run, scene, looks),
        "planted": measure(run, Gaussians.joined([scene, more]), looks, slice(len(scene), None)),
    }
    heads = ["scene", "splats", "floating", "found", "shown by one or two", "found", "of the others"]
    heads += ["PSNR", "without those found", "without the floating"]
    print("| " + " | ".join(heads) + " |\n|" + len(heads) * "---|")
    forms = ["{}", "{}", "{:.1%}", "{}", "{:.1%}", "{:.2%}", "{:.2f}", "{:.2f}", "{:.2f}"]
    for name, row in result.items():
        cells = [form.format(value) for form, value in zip(forms, row.values(), strict=True)]
        print("| " + " | ".join([name, *cells]) + " |")
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
