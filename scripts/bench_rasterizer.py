"""How long the native rasterizer takes on this machine: forward and backward, in ms of one core.

    python scripts/bench_rasterizer.py                  three scenes, one thread
    python scripts/bench_rasterizer.py --threads 1 2    and the speed-up of two
    python scripts/bench_rasterizer.py --sets 1 5       and five sets in one call
    python scripts/bench_rasterizer.py --contributors   instead: the 8 splats that a pixel shows most of
    python scripts/bench_rasterizer.py --growth         instead: time per Gaussian from 100,000 to 5 million
    python scripts/bench_rasterizer.py --in-order       neighbours in space are neighbours in memory
    python scripts/bench_rasterizer.py --level avx2     as on a processor without AVX-512
    python scripts/bench_rasterizer.py --device cuda    on a GPU, up to 3 million Gaussians, beside gsplat

Each figure is the minimum over the repeats. Stages are CPU time of the process; `all` is CPU time of the
whole call by way of torch and autograd, `wall` the time on the clock, which other processes lengthen.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.compiled import cpu_module
from cocogs.gaussians import z_curve_order
from cocogs.rasterize import rasterize
from cocogs.rasterize.contributors import contributors

STAGES = ("project", "sort, bin", "blend", "blend'", "sum", "project'")
"""Forward, then the gradients (')."""


@dataclass(frozen=True)
class Setup:
    """A random scene: splats of a few px, spread over depths 2 to 8 and a little beyond the image."""

    gaussians: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.gaussians // 1000}k {self.width}x{self.height}"


SCENES = [Setup(150_000, 600, 400), Setup(50_000, 600, 400), Setup(30_000, 300, 200)]
LARGE = Setup(1_000_000, 1600, 1066)
GROWTH = [Setup(100_000, 490, 327), Setup(1_000_000, 1549, 1033), Setup(5_000_000, 3464, 2309)]
"""As many Gaussians to a pixel, .62, and as large in px: the picture grows with their number."""
CUDA_SCENES = [SCENES[0], LARGE, Setup(3_000_000, 3200, 2133)]


@dataclass
class Timing:
    """Milliseconds; minima over the repeats."""

    setup: Setup
    sets: int
    threads: int
    level: str
    stages: dict[str, float] = field(default_factory=dict)
    cpu: float = math.inf
    wall: float = math.inf

    @property
    def staged(self) -> float:
        return sum(self.stages.values())

    @property
    def passes(self) -> dict[str, float]:
        """Nanoseconds per Gaussian, forward and backward; all is the whole call."""
        each = 1e6 / self.setup.gaussians
        forward = sum(self.stages[stage] for stage in STAGES[:3])
        backward = sum(self.stages[stage] for stage in STAGES[3:])
        return {"forward": each * forward, "backward": each * backward, "all": each * self.cpu}


def random_scene(setup: Setup, sets: int, seed: int = 0) -> tuple[dict[str, Any], Camera]:
    """The scene of the project's first measurements: median radius (3 sigma) 3.5 px, moderately oblong,
    opacities 0.1 to 0.9, colours of degree 3; all but the first set are displaced and reshaped a little."""
    g = torch.Generator().manual_seed(seed)
    count, f = setup.gaussians, 0.9 * setup.width

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    depth = 2 + 6 * uniform(count)
    x = (uniform(count) - 0.5) * 1.08 * setup.width / f * depth
    y = (uniform(count) - 0.5) * 1.08 * setup.height / f * depth
    sigma_px = 3.5 / 3 * torch.exp(0.45 * normal(count))
    scales = (sigma_px * depth / f)[:, None] * torch.exp(0.5 * normal(count, 3))
    quats = normal(count, 4)
    opacities = 0.1 + 0.8 * uniform(count)
    sh0, shN = 0.8 * normal(count, 3)[:, None], 0.1 * normal(count, 15, 3)

    pose = torch.eye(4)
    pose[0, 0] = pose[2, 2] = math.cos(0.1)
    pose[0, 2], pose[2, 0] = math.sin(0.1), -math.sin(0.1)
    pose[:3, 3] = torch.tensor([0.1, -0.05, 0.2])
    means = (torch.stack([x, y, depth], -1) - pose[:3, 3]) @ pose[:3, :3]

    means, quats, scales = (t.expand(sets, -1, -1).clone() for t in (means, quats, scales))
    for s in range(1, sets):
        means[s] += 0.01 * normal(count, 3)
        quats[s] += 0.02 * normal(count, 4)
        scales[s] *= 1 + 0.05 * normal(count, 3)
    tensors = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "sh0": sh0,
        "shN": shN,
    }
    intrinsics = torch.tensor([[f, 0, setup.width / 2], [0, f, setup.height / 2], [0, 0, 1]])
    return tensors, Camera(intrinsics.double(), pose.double(), setup.width, setup.height)


def along_z_curve(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same Gaussians, neighbours in space now neighbours in memory."""
    order, alike = z_curve_order(tensors["means"][0]), ("opacities", "sh0", "shN")  # in all sets
    return {name: t[order] if name in alike else t[:, order] for name, t in tensors.items()}


def measure(setup: Setup, sets: int, threads: int, repeats: int, in_order: bool = False) -> Timing:
    """Forward and backward pass, `repeats` times."""
    module = cpu_module()
    torch.set_num_threads(threads)
    tensors, camera = random_scene(setup, sets)
    if in_order:
        tensors = along_z_curve(tensors)
    leaves: dict[str, Any] = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    v_colors = 1e-3 * torch.randn(sets, 3, setup.height, setup.width)
    timing = Timing(setup, sets, threads, module.level(), dict.fromkeys(STAGES, math.inf))
    for _ in range(repeats):
        for leaf in leaves.values():
            leaf.grad = None
        cpu, wall = time.process_time(), time.perf_counter()
        rasterize(**leaves, camera=camera).colors.backward(v_colors)
        timing.cpu = min(timing.cpu, 1e3 * (time.process_time() - cpu))
        timing.wall = min(timing.wall, 1e3 * (time.perf_counter() - wall))
        for stage, seconds in zip(STAGES, module.stage_seconds(), strict=True):
            timing.stages[stage] = min(timing.stages[stage], 1e3 * seconds)
    return timing


def measure_contributors(setup: Setup, threads: int, repeats: int) -> str:
    """A row: a forward pass and `contributors`, by turns: ms of CPU and on the clock, and the ratios."""
    torch.set_num_threads(threads)
    tensors, camera = random_scene(setup, 1)
    splats: dict[str, Any] = {name: tensors[name][0] for name in ("means", "quats", "scales")}
    splats["opacities"], all_tensors = tensors["opacities"], dict[str, Any](tensors)
    calls = {"forward": (rasterize, all_tensors), "contributors": (contributors, splats)}
    best = dict.fromkeys(calls, (math.inf, math.inf))
    for _ in range(repeats):
        for name, (call, arguments) in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call(**arguments, camera=camera)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = min(best[name][0], 1e3 * spent[0]), min(best[name][1], 1e3 * spent[1])
    figures = [f"{ms:10.1f}" for name in calls for ms in best[name]]
    ratios = [f"{b / a:10.2f}" for a, b in zip(*best.values(), strict=True)]
    return f"{setup!s:16}{threads:8}  {cpu_module().level():9}" + "".join(figures + ratios)


def machine_peak() -> dict[str, float]:
    """One core of this machine, for scale: matrix product in GFLOP/s, copying in GB/s."""
    torch.set_num_threads(1)
    matrix, block = torch.randn(1024, 1024), torch.zeros(16_000_000)
    copy = torch.empty_like(block)

    def fastest(call) -> float:
        times = []
        for _ in range(10):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    return {
        "matrix product, GFLOP/s": 2e-9 * 1024**3 / fastest(lambda: matrix @ matrix),
        "copy, GB/s": 2e-9 * 4 * block.numel() / fastest(lambda: copy.copy_(block)),
    }


def row(timing: Timing) -> str:
    stages = "".join(f"{timing.stages[stage]:10.1f}" for stage in STAGES)
    return (
        f"{timing.setup!s:16}{timing.sets:5}{timing.threads:8}  {timing.level:9}{stages}"
        f"{timing.staged:9.1f}{timing.cpu:9.1f}{timing.wall:9.1f}"
    )


def growth(timing: Timing, timings: list[Timing]) -> str:
    """Time per Gaussian, and that over the first timing's of the same settings."""
    settings = (timing.sets, timing.threads, timing.level)
    first = next(t for t in timings if (t.sets, t.threads, t.level) == settings)
    return ", ".join(
        f"{name} {ns:.0f} ns ({ns / first.passes[name]:.2f} x)" for name, ns in timing.passes.items()
    )


def main_on_cuda(largest: int, as_json: bool, once: bool, beside_gsplat: bool) -> None:
    """Prints the table for a GPU; `once` draws one scene with its gradients, for a profiler."""
    import bench_cuda

    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here.")
    if once:
        tensors, camera = random_scene(LARGE, 5)
        leaves = {name: tensor.cuda().requires_grad_() for name, tensor in tensors.items()}
        rasterize(**leaves, camera=camera).colors.sum().backward()
        torch.cuda.synchronize()
        return
    speed, timings = bench_cuda.copy_speed(), []
    if not as_json:
        print(f"{torch.cuda.get_device_name()}, copies {1e-12 * speed:.2f} TB/s; ms on the device, medians")
        print(bench_cuda.HEADER)
    for setup in CUDA_SCENES:
        for sets in (1, 5):
            if setup.gaussians > largest:
                continue
            tensors, camera = random_scene(setup, sets)
            timings.append(bench_cuda.measure_cuda(str(setup), tensors, camera, speed, beside_gsplat))
            beside_gsplat &= not math.isnan(timings[-1].gsplat_both)  # it would try to compile itself again
            if not as_json:
                print(timings[-1].row(), flush=True)
    if as_json:
        print(json.dumps({"copy": speed, "timings": [asdict(timing) for timing in timings]}, indent=1))


def main_of_contributors(levels: list[str], threads: list[int], repeats: int) -> None:
    """Prints the table of `measure_contributors`."""
    columns = ("forward", "wall", "contrib.", "wall", "ratio", "of walls")
    print(f"{'scene':16}{'threads':>8}  {'level':9}" + "".join(f"{column:>10}" for column in columns))
    for level in levels:
        cpu_module().set_level(level)
        for setup in SCENES:
            for number in threads:
                print(measure_contributors(setup, number, repeats), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--sets", type=int, nargs="+", default=[1])
    parser.add_argument("--level", nargs="+", choices=cpu_module().levels(), default=[cpu_module().level()])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--growth", action="store_true", help="time per Gaussian, up to 5 million of them")
    parser.add_argument("--contributors", action="store_true", help="the 8 largest of each pixel")
    parser.add_argument("--in-order", action="store_true", help="Gaussians along a Z curve, not at random")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--largest", type=int, default=3_000_000, help="cuda: leave out larger scenes")
    parser.add_argument("--once", action="store_true", help="cuda: draw one scene once, for a profiler")
    parser.add_argument("--alone", action="store_true", help="cuda: without gsplat")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return main_on_cuda(arguments.largest, arguments.json, arguments.once, not arguments.alone)

    if arguments.contributors:
        return main_of_contributors(arguments.level, arguments.threads, arguments.repeats)

    timings = []
    header = "".join(f"{stage:>10}" for stage in STAGES)
    if not arguments.json:
        print(f"{'scene':16}{'sets':>5}{'threads':>8}  {'level':9}{header}{'stages':>9}{'all':>9}{'wall':>9}")
    for level in arguments.level:
        cpu_module().set_level(level)
        for setup in GROWTH if arguments.growth else SCENES:
            for sets in arguments.sets:
                for threads in arguments.threads:
                    repeats = arguments.repeats * SCENES[0].gaussians // setup.gaussians
                    repeats = max(3, min(arguments.repeats, repeats))
                    timings.append(measure(setup, sets, threads, repeats, arguments.in_order))
                    if not arguments.json:
                        print(row(timings[-1]), flush=True)
    peak = machine_peak()
    if arguments.json:
        print(json.dumps({"peak": peak, "timings": [asdict(timing) for timing in timings]}, indent=1))
        return
    for name, value in peak.items():
        print(f"{name}: {value:.1f}")
    if arguments.growth:
        for timing in timings:
            print(f"{timing.setup}, {timing.sets} sets, per Gaussian: {growth(timing, timings)}")


if __name__ == "__main__":
    main()
