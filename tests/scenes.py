"""Random Gaussian scenes for the tests, each built to strain one property of a rasterizer.

All numbers are float64 tensors that hold float32 values, so that every precision renders the same scene.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cocogs.camera import Camera


def float32_values(tensor: Tensor) -> Tensor:
    """The tensor in float64, rounded to what float32 can hold."""
    return tensor.float().double()


def tilted_camera(
    width: int = 53, height: int = 37, cx: float | None = None, cy: float | None = None
) -> Camera:
    """A camera off the origin, turned about two axes, with unequal focal lengths; principal point in px."""
    yaw, pitch = torch.tensor(0.3).double(), torch.tensor(-0.2).double()
    about_y = torch.eye(3).double()
    about_y[0, 0] = about_y[2, 2] = yaw.cos()
    about_y[0, 2], about_y[2, 0] = yaw.sin(), -yaw.sin()
    about_x = torch.eye(3).double()
    about_x[1, 1] = about_x[2, 2] = pitch.cos()
    about_x[1, 2], about_x[2, 1] = -pitch.sin(), pitch.sin()
    transform = torch.eye(4).double()
    transform[:3, :3] = about_x @ about_y
    transform[:3, 3] = torch.tensor([0.1, -0.05, 0.2])
    cx, cy = width / 2 if cx is None else cx, height / 2 if cy is None else cy
    intrinsics = torch.tensor([[0.9 * width, 0, cx], [0, 0.95 * width, cy], [0, 0, 1]])
    return Camera(intrinsics.double(), float32_values(transform), width, height)


@dataclass(frozen=True)
class Splats:
    """The tensors of a `rasterize` call, in its order and shapes; N splats, or S sets of N."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor
    blur: Tensor | None = None
    shift: Tensor | None = None

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Copies of all that are there, by name."""
        return {name: value.to(dtype, copy=True) for name, value in vars(self).items() if value is not None}

    def sets(self) -> int:
        """The number of sets S."""
        per_splat = {"means": 2, "quats": 2, "scales": 2, "opacities": 1, "blur": 1, "shift": 2}
        leading = [len(t) for name, t in self.tensors().items() if t.dim() > per_splat.get(name, t.dim())]
        return max(leading, default=1)


def to_world(local: Tensor, camera: Camera) -> Tensor:
    """World points of camera coordinates (N, 3)."""
    return (local - camera.cam_from_world[:3, 3]) @ camera.cam_from_world[:3, :3]


def random_splats(
    count: int,
    camera: Camera,
    seed: int = 0,
    *,
    size_px: float = 2.0,
    opacities: tuple[float, float] = (0.1, 0.9),
    spread: float = 1.05,
) -> Splats:
    """Splats all over the view at depths 2..8.

    Depths are a shuffled grid, so that no rounding swaps two splats.

    Args:
        size_px: median standard deviation in the image.
        spread: 1 fills the view exactly, more goes over its border.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    grid = (torch.randperm(count, generator=generator) + 0.5) / max(count, 1)
    z = 2 + 6 * grid.double()
    pixels = torch.tensor([camera.width, camera.height]) * (0.5 + spread * (uniform(count, 2) - 0.5))
    x, y = (pixels[:, 0] - camera.cx) / camera.fx * z, (pixels[:, 1] - camera.cy) / camera.fy * z
    scales = size_px * (z / camera.fx)[:, None] * (0.5 * normal(count, 3)).exp()
    low, high = opacities
    splats = Splats(
        means=to_world(torch.stack([x, y, z], -1), camera),
        quats=normal(count, 4),
        scales=scales,
        opacities=low + (high - low) * uniform(count),
        sh0=0.8 * normal(count, 1, 3),
        shN=0.15 * normal(count, 15, 3),
    )
    return Splats(**{name: float32_values(value) for name, value in splats.tensors().items()})


@dataclass(frozen=True)
class Case:
    """One call of `rasterize`: its tensors, its camera and its options.

    Args:
        rounding: how many times more float32's rounding weighs than in an ordinary scene.
    """

    splats: Splats
    camera: Camera
    options: dict[str, Any] = field(default_factory=dict)
    rounding: float = 1


CASES: dict[str, Callable[[], Case]] = {}
"""Every scene by name."""


def listed(make: Callable[[], Case]) -> Callable[[], Case]:
    """Put a scene on the list."""
    CASES[make.__name__] = make
    return make


@listed
def ordinary() -> Case:
    camera = tilted_camera()
    return Case(random_splats(120, camera), camera)


@listed
def depth() -> Case:
    return replace(ordinary(), options={"with_depth": True})


@listed
def background() -> Case:
    colour = float32_values(torch.tensor([0.2, 0.5, 0.9]))
    return replace(ordinary(), options={"with_depth": True, "background": colour})


@listed
def dense() -> Case:
    """Nearly opaque layers: pixels end."""
    camera = tilted_camera()
    splats = random_splats(200, camera, 1, size_px=4, opacities=(0.7, 1.0))
    return Case(splats, camera, {"with_depth": True})


@listed
def faint() -> Case:
    """Opacities on both sides of the visibility threshold."""
    camera = tilted_camera()
    return Case(random_splats(150, camera, 2, opacities=(0.0, 0.02)), camera)


@listed
def behind() -> Case:
    """A third behind the camera, some in its plane, some at its centre, some before the near plane."""
    camera = tilted_camera()
    splats = random_splats(120, camera, 3)
    local = splats.means @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    local[:40, 2] *= -1
    local[40:50, 2] = 0
    local[50:60] = 0
    local[60:70, 2] = 0.005
    return Case(replace(splats, means=float32_values(to_world(local, camera))), camera, {"with_depth": True})


@listed
def border() -> Case:
    """Most means outside the image, some far beyond the limit of the projection's derivative."""
    camera = tilted_camera()
    return Case(random_splats(150, camera, 4, size_px=4, spread=2.5), camera)


@listed
def off_centre() -> Case:
    """A principal point near a corner of the image."""
    camera = tilted_camera(cx=8.25, cy=30.5)
    return Case(random_splats(120, camera, 5, spread=1.4), camera, {"with_depth": True})


@listed
def outside_centre() -> Case:
    """A principal point outside the image, as after cropping."""
    camera = tilted_camera(cx=-20.0, cy=60.0)
    return Case(random_splats(120, camera, 6, spread=1.4), camera)


@listed
def huge() -> Case:
    """Splats far larger than the image, and larger than their distance."""
    camera = tilted_camera()
    splats = random_splats(40, camera, 7, opacities=(0.05, 0.4))
    factors = torch.cat([torch.full((20,), 30.0), torch.full((20,), 1000.0)])
    return Case(replace(splats, scales=float32_values(splats.scales * factors[:, None])), camera)


@listed
def tiny() -> Case:
    """Splats a thousandth of a pixel wide: what pixels add alone shows them."""
    camera = tilted_camera()
    return Case(random_splats(200, camera, 8, size_px=1e-3), camera)


@listed
def flat() -> Case:
    """Scales of 0 and 1e-12 along one, two or three axes."""
    camera = tilted_camera()
    splats = random_splats(120, camera, 9, size_px=4)
    scales = splats.scales.clone()
    scales[:20, 0] = 0
    scales[20:40, 1:] = 0
    scales[40:60] = 0
    scales[60:80, 2] = 1e-12
    scales[80:100] = 1e-12
    return Case(replace(splats, scales=float32_values(scales)), camera)


@listed
def needles() -> Case:
    """Up to the image's width long and two thousand times thinner.

    On a slanting needle the terms of x^T C^-1 x are hundreds of times larger than their sum.
    """
    camera = tilted_camera()
    splats = random_splats(60, camera, 10)
    factors = torch.tensor([20.0, 0.01, 0.01])
    return Case(replace(splats, scales=float32_values(splats.scales * factors)), camera, rounding=10)


@listed
def all_or_nothing() -> Case:
    """Opacities 0 and 1."""
    camera = tilted_camera()
    splats = random_splats(120, camera, 11, size_px=3)
    opacities = (torch.arange(120) % 2).double()
    return Case(replace(splats, opacities=opacities), camera, {"with_depth": True})


@listed
def brighter_than_opaque() -> Case:
    """Splats that stand for many, as refocusing thins them out."""
    camera = tilted_camera()
    return Case(random_splats(60, camera, 21, opacities=(1.0, 14.0)), camera, {"with_depth": True})


@listed
def long_quats() -> Case:
    """Quaternions of lengths from 1e-3 to 1e3."""
    camera = tilted_camera()
    splats = random_splats(60, camera, 12)
    lengths = torch.logspace(-3, 3, 60)[:, None]
    return Case(replace(splats, quats=float32_values(splats.quats * lengths)), camera)


@listed
def nothing() -> Case:
    camera = tilted_camera()
    colour = float32_values(torch.tensor([0.2, 0.5, 0.9]))
    return Case(random_splats(0, camera), camera, {"with_depth": True, "background": colour})


@listed
def nothing_visible() -> Case:
    case = ordinary()
    away = case.splats.means - 50 * case.camera.cam_from_world[2, :3]
    return Case(replace(case.splats, means=float32_values(away)), case.camera, {"with_depth": True})


@listed
def single_pixel() -> Case:
    camera = tilted_camera(1, 1)
    return Case(random_splats(10, camera, 13), camera)


@listed
def thin_image() -> Case:
    camera = tilted_camera(97, 3)
    return Case(random_splats(60, camera, 14), camera)


@listed
def tall_image() -> Case:
    camera = tilted_camera(37, 53)
    return Case(random_splats(100, camera, 15), camera)


@listed
def many() -> Case:
    """Thousands of faint splats on a few pixels: long lists in every part of the image."""
    camera = tilted_camera(35, 21)
    return Case(random_splats(2501, camera, 20, size_px=1.5, opacities=(0.005, 0.05)), camera)


@listed
def large_image() -> Case:
    camera = tilted_camera(203, 131)
    return Case(random_splats(80, camera, 21, size_px=8), camera, {"with_depth": True})


@listed
def whole_tiles() -> Case:
    camera = tilted_camera(64, 48)
    return Case(random_splats(150, camera, 16), camera)


def _varied(splats: Splats, names: list[str], sets: int) -> Splats:
    generator = torch.Generator().manual_seed(99)
    changed = {}
    for name in names:
        value = getattr(splats, name)
        factors = 1 + 0.02 * torch.randn(sets, *value.shape, generator=generator, dtype=torch.float64)
        changed[name] = float32_values(value * factors)
    return replace(splats, **changed)


@listed
def own_sets() -> Case:
    """Three sets that share nothing but their colours."""
    camera = tilted_camera()
    splats = _varied(random_splats(60, camera, 17), ["means", "quats", "scales", "opacities"], 3)
    return Case(splats, camera, {"with_depth": True})


@listed
def shared_sets() -> Case:
    """Means per set, the rest shared, once with and once without a leading 1."""
    camera = tilted_camera()
    splats = _varied(random_splats(60, camera, 18), ["means"], 3)
    return Case(replace(splats, quats=splats.quats[None], opacities=splats.opacities[None]), camera)


def _blur(count: int, sets: int | None = None) -> Tensor:
    shape = (count,) if sets is None else (sets, count)
    generator = torch.Generator().manual_seed(5)
    variances = 8 * torch.rand(shape, generator=generator, dtype=torch.float64).square()
    variances[..., :5] = 0
    return float32_values(variances)


@listed
def blurred() -> Case:
    case = depth()
    return replace(case, splats=replace(case.splats, blur=_blur(len(case.splats.means))))


@listed
def blurred_sets() -> Case:
    """One geometry, its blur per set."""
    camera = tilted_camera()
    splats = random_splats(60, camera, 19)
    return Case(replace(splats, blur=_blur(60, 2)), camera)


@listed
def blurred_shared() -> Case:
    """Sets of their own, the blur shared."""
    case = own_sets()
    return replace(case, splats=replace(case.splats, blur=_blur(60)))


def _shift(count: int, sets: int) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return float32_values(6 * torch.randn(sets, count, 2, generator=generator, dtype=torch.float64))


@listed
def shifted() -> Case:
    """Sets that differ only in where their splats are moved, some of them out of the picture and into it."""
    case = blurred()
    return replace(case, splats=replace(case.splats, shift=_shift(len(case.splats.means), 3)))


@listed
def shifted_sets() -> Case:
    """Sets of their own, shifted too."""
    case = own_sets()
    return replace(case, splats=replace(case.splats, shift=_shift(60, 3)))


@listed
def shifted_shared() -> Case:
    """Sets of their own, one shift for all."""
    case = own_sets()
    return replace(case, splats=replace(case.splats, shift=_shift(60, 1)))


@listed
def blurred_opaque() -> Case:
    """Opacity 1 and flat splats under a blur of up to 40 px standard deviation."""
    case = flat()
    blur = torch.linspace(0, 40, 120).double().square()
    splats = replace(case.splats, opacities=torch.ones(120).double(), blur=float32_values(blur))
    return Case(splats, case.camera)


def coloured(degree: int) -> Case:
    """Strong colours of every band, used up to `degree`."""
    splats = ordinary().splats
    shN = float32_values(3 * splats.shN)
    return replace(ordinary(), splats=replace(splats, shN=shN), options={"sh_degree": degree})


CASES |= {f"sh_degree_{degree}": partial(coloured, degree) for degree in range(4)}


def antialiased(name: str) -> Case:
    """Another case, drawn by pixels that average."""
    case = CASES[name]()
    return replace(case, options=case.options | {"antialiased": True})


STRAINED = (
    "background",
    "dense",
    "border",
    "tiny",
    "flat",
    "needles",
    "all_or_nothing",
    "nothing",
    "own_sets",
)
CASES |= {
    f"antialiased_{name}": partial(antialiased, name)
    for name in (*STRAINED, "blurred", "blurred_sets", "shifted")
}
