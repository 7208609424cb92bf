"""Each base Gaussian into M circle-of-confusion copies: by the lens alone, by the lens with learned
residuals, or by the paper's learned factors (METHOD.md sections 2 and 3).

Two small MLPs, one per reading. Both see the camera position and the base Gaussian with gradients
stopped, so that they describe the lens and never move the scene.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.device import bf16_where_fast
from cocogs.gaussians import Activated
from cocogs.optics.aperture import lens_samples, sampled_disc
from cocogs.optics.lens import DISC_SIGMA, PhotoLens, blur_variance, camera_depth, coc_diameter, world_radius

MAX_FACTOR = 1.1  # upper bound of the paper's scale and rotation factors


@dataclass
class Copies:
    """M copies of N Gaussians, ready for `rasterize`; 1 in place of M: shared by all copies. blur in px^2."""

    means: Float[Tensor, "M N 3"]
    quats: Float[Tensor, "#M N 4"]
    scales: Float[Tensor, "#M N 3"]
    opacities: Float[Tensor, "1 N"]
    blur: Float[Tensor, "#M N"] | None


def widen(base: Activated, cam_from_world: Float[Tensor, "4 4"], lens: PhotoLens) -> Copies:
    """One copy per Gaussian, blurred in the image by its own circle of confusion (`lens` preset).

    The rasterizer adds the variance of the disc's Gaussian to the projected splat and lowers its opacity
    so that the integral is kept: exact for one splat, and the price of a plain render.
    """
    means, quats, scales, opacities = base
    z = camera_depth(means, cam_from_world, lens.depth)
    blur = blur_variance(coc_diameter(z, lens.focus_distance, lens.K)) + lens.softness
    return Copies(means[None], quats[None], scales[None], opacities[None], blur[None])


def sample_lens(
    base: Activated,
    cam_from_world: Float[Tensor, "4 4"],
    fx: float,
    lens: PhotoLens,
    residuals: "LensResiduals",
) -> Copies:
    """M copies, each seen through one sub-aperture: shifted sideways and widened by the sub-aperture.

    `residuals` at zero give the physical lens: what is nearest to its disc (`sampled_disc`).
    """
    means, quats, scales, opacities = base
    rotation = cam_from_world[:3, :3]
    z = camera_depth(means, cam_from_world, lens.depth)
    K = lens.K * residuals.K_factor * sampled_disc(len(residuals.widths))
    radius = world_radius(z, lens.focus_distance, K, fx, lens.units)
    # -r u in the camera's x and y; the rows of the rotation are its axes in the world.
    offsets = (-radius[:, None] * residuals.directions) @ rotation[:2]
    sub_aperture = coc_diameter(z, lens.focus_distance, K) * residuals.widths
    blur = blur_variance(sub_aperture) + lens.softness
    return Copies(means + offsets, quats[None], scales[None], opacities[None], blur)


@dataclass
class LensResiduals:
    """Where the learned lens departs from the physical one.

    directions: points of the unit disc; widths: sub-aperture radius as a part of the aperture radius,
    1/sqrt(M) by physics; K_factor: factor on K, 1 by physics and in the geometric mean.
    """

    directions: Float[Tensor, "M N 2"]
    widths: Float[Tensor, "M N"]
    K_factor: Float[Tensor, " N"]

    def spread(self) -> Float[Tensor, " N"]:
        """How much more or less the learned lens blurs than its K says: the ratio of standard deviations of
        its copies, their own widths included, and of the disc (1/2 of its radius per axis)."""
        centred = self.directions - self.directions.mean(0)
        variance = centred.square().sum(-1).mean(0) / 2 + (DISC_SIGMA * self.widths).square().mean(0)
        return self.K_factor * 2 * variance.sqrt()


class ResidualExpansion(nn.Module):
    """MLP for `LensResiduals`; its last layer starts at zero, so training starts at the true lens."""

    def __init__(self, copies: int, center: Float[Tensor, "3"], extent: float, hidden: int = 32) -> None:
        super().__init__()
        self.copies = copies
        self.register_buffer("samples", lens_samples(copies))
        self.encode = GaussianEncoding(center, extent, position_bands=3, camera_bands=0)
        last = nn.Linear(hidden, 3 * copies + 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(self.encode.size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            last,
        )

    samples: Float[Tensor, "M 2"]

    def forward(self, base: Activated, position: Float[Tensor, "3"]) -> LensResiduals:
        raw = torch.tanh(mlp(self.layers, self.encode(base, position))) / 2
        count, copies = len(raw), self.copies
        shift = raw[:, : 2 * copies].view(count, copies, 2).transpose(0, 1)
        width = raw[:, 2 * copies : 3 * copies].T.exp() / math.sqrt(copies)
        # How wide the lens is altogether is K's to say; the factors say where it acts wider or narrower.
        factor = (raw[:, -1] - raw[:, -1].mean()).exp()
        return LensResiduals(self.samples[:, None] + shift, width, factor)


@dataclass
class PaperFactors:
    """The paper's five learned quantities, separate and named (its released code fuses the first three).

    K_factor: factor on K, > 0; directions: unit vectors; beta in (0, 1]; scale_factors and
    rotation_factors in [1, 1.1].
    """

    K_factor: Float[Tensor, " N"]
    directions: Float[Tensor, "M N 3"]
    beta: Float[Tensor, "M N"]
    scale_factors: Float[Tensor, "M N 3"]
    rotation_factors: Float[Tensor, "M N 4"]


@dataclass(frozen=True)
class Ablation:
    """Parts of the paper's model to leave out, as in its Table 3."""

    coc: bool = False
    """Offsets no longer grow with the circle of confusion."""
    direction: bool = False
    """Fixed, evenly spread directions instead of learned ones."""
    beta: bool = False
    """Every copy sits on the rim of the circle: beta = 1."""
    aperture: bool = False
    """The aperture K stays at its start value."""
    cnn: bool = False
    """The renders are averaged instead of blended by the CNN."""


class PaperExpansion(nn.Module):
    """The MLP of CoCoGaussian (3 x 64; 3 bands for the position, 10 for the camera position)."""

    def __init__(
        self, copies: int, center: Float[Tensor, "3"], extent: float, ablation: Ablation, hidden: int = 64
    ) -> None:
        super().__init__()
        self.copies, self.ablation = copies, ablation
        self.encode = GaussianEncoding(center, extent, position_bands=3, camera_bands=10)
        self.layers = nn.Sequential(
            nn.Linear(self.encode.size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, sum(self._sizes)),
        )
        self.register_buffer("fixed_directions", sphere_points(copies))
        self._start_near_a_lens()

    @torch.no_grad()
    def _start_near_a_lens(self) -> None:
        """Copies spread evenly near the rim of the circle, almost alike for all Gaussians and quite so for
        all cameras, whose 10 bands are noise until learned (docs/benchmarks.md: what that gains)."""
        first, last = self.layers[0], self.layers[-1]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        first.weight[:, -self.encode.camera_size :] = 0
        last.weight *= 0.1
        last.bias.zero_()
        _, directions, beta, _, _ = last.bias.split(self._sizes)
        directions.copy_(self.fixed_directions.flatten())
        beta.fill_(2.0)  # beta = .88

    @property
    def _sizes(self) -> list[int]:
        """Of the outputs: aperture, directions, beta, scale and rotation factors."""
        return [1, *(size * self.copies for size in (3, 1, 3, 4))]

    fixed_directions: Float[Tensor, "M 3"]

    def forward(self, base: Activated, position: Float[Tensor, "3"]) -> PaperFactors:
        raw = mlp(self.layers, self.encode(base, position))
        count = len(raw)
        aperture, direction, beta, scale, rotation = raw.split(self._sizes, dim=1)

        def per_copy(values: Tensor, size: int) -> Tensor:
            return values.view(count, self.copies, size).transpose(0, 1)

        directions = F.normalize(per_copy(direction, 3), dim=-1, eps=1e-6)
        if self.ablation.direction:
            directions = self.fixed_directions[:, None].expand(-1, count, -1)
        betas = per_copy(beta, 1)[..., 0].sigmoid()
        return PaperFactors(
            K_factor=F.softplus(aperture[:, 0] + math.log(math.e - 1)),  # 1 at zero
            directions=directions,
            beta=torch.ones_like(betas) if self.ablation.beta else betas,
            scale_factors=bounded_factor(per_copy(scale, 3)),
            rotation_factors=bounded_factor(per_copy(rotation, 4)),
        )


def paper_copies(
    base: Activated,
    cam_from_world: Float[Tensor, "4 4"],
    fx: float,
    lens: PhotoLens,
    factors: PaperFactors,
    ablation: Ablation,
) -> Copies:
    """METHOD.md 3.4: mean + (c / 2) beta d, scale x ds, quaternion x dq; plus the base set, last."""
    means, quats, scales, opacities = base
    z = camera_depth(means, cam_from_world, lens.depth)
    K = lens.K.detach() if ablation.aperture else lens.K * factors.K_factor
    radius = world_radius(z, lens.focus_distance, K, fx, lens.units).abs()
    if ablation.coc:
        radius = scales.detach().amax(1)
    offsets = (radius * factors.beta)[..., None] * factors.directions
    return Copies(
        torch.cat([means + offsets, means[None]]),
        torch.cat([quats * factors.rotation_factors, quats[None]]),
        torch.cat([scales * factors.scale_factors, scales[None]]),
        opacities[None],
        None,
    )


def bounded_factor(raw: Tensor) -> Tensor:
    """Into [1, `MAX_FACTOR`], almost 1 where nothing was learned: the paper's bounds, kept smooth."""
    return 1 + (MAX_FACTOR - 1) * (raw - 4).sigmoid()


class GaussianEncoding(nn.Module):
    """MLP input: encoded position, log scales, unit quaternion, encoded camera position.

    Positions are taken relative to the scene's `center` and `extent`, so units do not matter.
    """

    def __init__(
        self, center: Float[Tensor, "3"], extent: float, position_bands: int, camera_bands: int
    ) -> None:
        super().__init__()
        self.register_buffer("center", center.float())
        self.register_buffer("extent", torch.tensor(float(extent)))
        self.position_bands, self.camera_bands = position_bands, camera_bands
        self.camera_size = 3 * (1 + 2 * camera_bands)  # of the inputs, the last ones
        self.size = 3 * (1 + 2 * position_bands) + 3 + 4 + self.camera_size

    center: Float[Tensor, "3"]
    extent: Float[Tensor, ""]

    def forward(self, base: Activated, position: Float[Tensor, "3"]) -> Float[Tensor, "N {self.size}"]:
        means, quats, scales, _ = (x.detach() for x in base)
        place = fourier((means - self.center) / self.extent, self.position_bands)
        camera = fourier((position - self.center) / self.extent, self.camera_bands)
        shape = torch.cat([(scales / self.extent).clamp_min(1e-8).log(), F.normalize(quats, dim=-1)], dim=-1)
        return torch.cat([place, shape, camera.expand(len(means), -1)], dim=-1)


def fourier(x: Float[Tensor, "*P 3"], bands: int) -> Float[Tensor, "*P {3*(1+2*bands)}"]:
    """x and its sines and cosines at doubling frequencies."""
    angles = [x * 2**band for band in range(bands)]
    return torch.cat([x, *(f(a) for a in angles for f in (torch.sin, torch.cos))], dim=-1)


def mlp(layers: nn.Sequential, inputs: Float[Tensor, "N _"]) -> Float[Tensor, "N _"]:
    """Hidden layers in bf16 (a third of the time where it is fast), results in float32."""
    with bf16_where_fast(inputs.device):
        return layers(inputs).float()


def sphere_points(count: int) -> Float[Tensor, "{count} 3"]:
    """Evenly spread unit vectors (a Fibonacci sphere)."""
    index = torch.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * math.pi * (3 - math.sqrt(5))
    ring = torch.sqrt(1 - height.square())
    return torch.stack([ring * torch.cos(angle), ring * torch.sin(angle), height], dim=-1)
