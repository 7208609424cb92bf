"""The CUDA half of bench_rasterizer.py: our rasterizer beside gsplat's, given the same Gaussians."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.rasterize import rasterize
from cocogs.train.replay import Replay

WARM_UP, REPEATS = 10, 50


@dataclass
class CudaTiming:
    """Milliseconds on the device, medians; NaN where it could not be run.

    Attributes:
        replayed: forward + backward as training does it, recorded once.
        floor: what moving each input, gradient and picture once would take at the device's copy speed.
        apart: mean difference of the two pictures, which shows that both drew the same scene.
    """

    scene: str
    sets: int
    forward: float
    both: float
    replayed: float
    gsplat_forward: float
    gsplat_both: float
    floor: float
    peak_gib: float
    apart: float

    def row(self) -> str:
        ratios = "".join(f"{self.gsplat_both / ours:9.2f}" for ours in (self.both, self.replayed))
        return (
            f"{self.scene:16}{self.sets:5}{self.forward:10.3f}{self.both:10.3f}{self.replayed:10.3f}"
            f"{self.floor:10.3f}{self.gsplat_forward:12.3f}{self.gsplat_both:12.3f}{ratios}"
            f"{self.peak_gib:9.2f}{self.apart:9.1e}"
        )


HEADER = (
    f"{'scene':16}{'sets':>5}{'forward':>10}{'and back':>10}{'replayed':>10}{'floor':>10}"
    f"{'gsplat fwd':>12}{'and back':>12}{'ratio':>9}{'replayed':>9}{'GiB':>9}{'apart':>9}"
)


def median_ms(call: Callable[[], Any]) -> float:
    """Median time of a call on the device, by CUDA events, after a warm-up."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_speed() -> float:
    """Bytes per second that the device copies, read and written ones counted."""
    block = torch.empty(1 << 28, device="cuda")
    other = torch.empty_like(block)
    return 2 * 4 * block.numel() / (1e-3 * median_ms(lambda: other.copy_(block)))


def gsplat_scene(
    tensors: dict[str, Tensor], camera: Camera
) -> tuple[dict[str, Tensor], Callable[[], Tensor]]:
    """Leaves of gsplat's own, its coefficients in one tensor, and what draws them: (S, 1, H, W, 3), the
    sets as its batch. Whatever can be made ready beforehand is."""
    from gsplat import rasterization

    sets = len(tensors["means"])
    ready = {name: tensors[name] for name in ("means", "quats", "scales", "opacities")}
    ready["colors"] = torch.cat([tensors["sh0"], tensors["shN"]], 1)
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in ready.items()}
    viewmats = camera.cam_from_world.float().cuda().expand(sets, 1, 4, 4).contiguous()
    Ks = camera.intrinsics.float().cuda().expand(sets, 1, 3, 3).contiguous()

    def render() -> Tensor:
        image, _, _ = rasterization(
            leaves["means"],
            leaves["quats"],
            leaves["scales"],
            leaves["opacities"].expand(sets, -1),
            leaves["colors"].expand(sets, -1, -1, -1),
            viewmats=viewmats,
            Ks=Ks,
            width=camera.width,
            height=camera.height,
            sh_degree=3,
            packed=False,
        )
        return image

    return leaves, render


@dataclass
class Passes:
    """Forward, and forward + backward with random gradients of the picture."""

    render: Callable[[], Tensor]
    leaves: dict[str, Tensor]

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.v_picture = 1e-3 * torch.randn_like(self.render())

    @torch.no_grad()
    def forward(self) -> None:
        self.render()

    def both(self) -> Tensor:
        for leaf in self.leaves.values():
            leaf.grad = None
        picture = self.render()
        picture.backward(self.v_picture)
        return picture.flatten()[:1]


def measure_cuda(
    name: str, tensors: dict[str, Tensor], camera: Camera, speed: float, beside_gsplat: bool
) -> CudaTiming:
    """One scene, ours and gsplat's."""
    leaves: dict[str, Any] = {key: value.cuda().requires_grad_() for key, value in tensors.items()}
    sets = len(leaves["means"])
    torch.cuda.reset_peak_memory_stats()
    ours = Passes(lambda: rasterize(**leaves, camera=camera).colors, leaves)
    forward, both = median_ms(ours.forward), median_ms(ours.both)
    peak = torch.cuda.max_memory_allocated() / 2**30
    moved = 2 * sum(leaf.numel() for leaf in leaves.values()) + 2 * sets * 4 * camera.width * camera.height
    photo = torch.zeros(1, dtype=torch.long, device="cuda")
    replayed = median_ms(partial(Replay(ours.both, photo, 1, {}).run, 0, None))
    theirs, apart = (float("nan"), float("nan")), float("nan")
    if beside_gsplat:
        try:
            gsplat_leaves, render = gsplat_scene(leaves, camera)
            with torch.no_grad():
                difference = render()[:, 0].movedim(-1, 1) - rasterize(**leaves, camera=camera).colors
            passes = Passes(render, gsplat_leaves)
            theirs, apart = (
                (median_ms(passes.forward), median_ms(passes.both)),
                difference.abs().mean().item(),
            )
        except Exception as error:
            print(f"gsplat could not be run: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
    return CudaTiming(name, sets, forward, both, replayed, *theirs, 1e3 * 4 * moved / speed, peak, apart)
