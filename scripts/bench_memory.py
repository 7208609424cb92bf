"""Peak memory of a training step per pixel of the photo: one forward and backward pass of a preset.

    python scripts/bench_memory.py full --width 1800

The scene is the random one of bench_rasterizer.py (150,000 splats), drawn at another size. What the process
held before the step is not counted. One preset a call, because peaks of a process never fall. Linux only.
"""

import argparse
from pathlib import Path

import torch
from bench_rasterizer import Setup, random_scene

from cocogs.config import PRESETS, preset
from cocogs.gaussians import Gaussians
from cocogs.optics.lens_models import Start
from cocogs.optics.model import DefocusModel
from cocogs.train.losses import masked_mean, photometric_loss


def resident(kind: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak bytes per pixel of a training step.")
    parser.add_argument("preset", choices=list(PRESETS))
    parser.add_argument("--width", type=int, default=1800, help="px; the height is two thirds of it")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tensors, camera = random_scene(Setup(150_000, 600, 400), 1)
    camera = camera.resized(arguments.width, arguments.width * 2 // 3)
    raw = {name: tensors[name][0] for name in ("means", "quats")} | {n: tensors[n] for n in ("sh0", "shN")}
    scales, opacities = tensors["scales"][0].log(), tensors["opacities"].logit()
    gaussians = Gaussians(True, **raw, scales=scales, opacities=opacities)
    config, ones = preset(arguments.preset).model, torch.ones(1)
    start = Start(4 * ones, 0.05 * camera.width, ones, 4.0, camera.fx, 1.0, torch.zeros(3), 2.0)
    model = DefocusModel.starting(gaussians, config, start)
    truth = torch.rand(3, camera.height, camera.width)

    before = resident("VmRSS")
    photo = model.photo(camera, 0)
    weight = 1 / (1 + (photo.coc[None] / 3).square())
    masked_mean(photometric_loss(photo.image, truth, 0.2) * weight, None).backward()
    peak = (resident("VmHWM") - before) / (camera.width * camera.height)
    print(f"{arguments.preset} at {camera.width}x{camera.height}: {peak:.0f} bytes a pixel")


if __name__ == "__main__":
    main()
