"""Milliseconds of a training step by the number of photos, recorded and not (docs/lab/gpu.md).

    python scripts/bench_training.py DATA --photos 20 300 --device cuda

The photos of DATA are repeated, by cameras that stand a little apart, until there are so many. Then preset
`full` is trained, with its edits, for `--steps` photos. Each figure is the wall time of the second half of a
part of the run over its steps: at half the size, whole while splats are added, whole, through samples.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cocogs.config import Config, preset
from cocogs.optics.model import DefocusModel
from cocogs.scene import Scene, open_scene
from cocogs.train.monitor import Monitor
from cocogs.train.trainer import Trainer


class Stopwatch(Monitor):
    """Notes when the device was done with some steps; writes nothing."""

    def __init__(self, steps: set[int], device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.times: dict[int, float] = {}

    def step(self, step: int, loss: Tensor, mse: Tensor, count: int) -> None:
        if step in self.steps:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.times[step] = time.perf_counter()

    def evaluate(self, step: int, model: DefocusModel, scene: Scene) -> None:
        pass

    def show(self, step: int, model: DefocusModel, scene: Scene) -> None:
        pass


def repeated(scene: Scene, photos: int) -> Scene:
    """A scene of so many training photos."""
    views = scene.train_views
    step, found = 0.01 * scene.extent / len(views), []
    for index in range(photos):
        view = views[index % len(views)]
        pose = view.camera.cam_from_world.clone()
        pose[0, 3] += step * (index // len(views))
        camera = replace(view.camera, cam_from_world=pose)
        found.append(replace(view, name=f"{index:05d}_{view.name}", camera=camera))
    return replace(scene, views=found)


def parts(config: Config) -> dict[str, tuple[int, int]]:
    """First and last step of the second half of each part."""
    optim, added = config.optim, int(config.strategy.end * config.optim.iterations)
    ends = {"halved": optim.last_halved, "growing": min(added, optim.last_single)}
    ends |= {"whole": optim.last_single, "samples": optim.iterations}
    begin, found = 0, {}
    for name, end in ends.items():
        if end > begin + 1:
            found[name] = ((begin + end) // 2, end)
        begin = max(begin, end)
    return found


def milliseconds(config: Config, scene: Scene, device: torch.device, recorded: bool) -> dict[str, float]:
    spans = parts(config)
    watch = Stopwatch({step for span in spans.values() for step in span}, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, scene, Path(folder), device=device)
        if not recorded:
            trainer.replay = None
        trainer.train(watch)
    return {name: 1e3 * (watch.times[b] - watch.times[a]) / (b - a) for name, (a, b) in spans.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, nargs="+", default=[20, 300])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--max-gaussians", type=int, default=60_000)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device, base = torch.device(options.device), preset("full")
    config = replace(
        base,
        optim=replace(base.optim, iterations=options.steps, seen_at_least=0),
        strategy=replace(base.strategy, max_gaussians=options.max_gaussians),
    )
    with tempfile.TemporaryDirectory() as cache:
        scene = open_scene(options.data, Path(cache), say=lambda line: None)
        for photos in options.photos:
            many = repeated(scene, photos)
            for recorded in (True, False) if device.type == "cuda" else (False,):
                found = milliseconds(config, many, device, recorded)
                row = "  ".join(f"{name} {value:6.2f}" for name, value in found.items())
                print(f"{photos:5} photos, {'recorded' if recorded else 'as it is'}: {row} ms", flush=True)


if __name__ == "__main__":
    main()
