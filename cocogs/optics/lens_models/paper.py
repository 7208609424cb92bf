"""CoCoGaussian as published (Lee et al., CVPR 2025, arXiv 2412.16028), with what only it needs: its units,
its Euclidean depth, its ablations. docs/method.md tells where its released code differs.

The paper uses Eq. 7, K |1/z - 1/z_f| / 2, as a radius in the *scene*, without the factor z / fx of physics;
its learned factors have to make up for that. Its K therefore is neither px nor a length: at the typical depth
of the scene, K / typical depth is the diameter of the aperture.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.config import Ablation, ModelConfig
from cocogs.gaussians import Activated
from cocogs.optics.aperture import GOLDEN_ANGLE
from cocogs.optics.blend import BlendNet
from cocogs.optics.copies import Copies, as_they_are
from cocogs.optics.encoding import GaussianEncoding, mlp
from cocogs.optics.lens import MIN_DEPTH, PhotoLens, coc_diameter
from cocogs.optics.lens_models.base import LensModel, Start
from cocogs.optics.maps import ray_lengths
from cocogs.optics.per_photo import Aperture, Focus, PhotoIndex

MAX_FACTOR = 1.1  # upper bound of the scale and rotation factors


class Paper(LensModel):
    """M learned copies of every Gaussian and the Gaussian itself, blended by a CNN; a pinhole while the scene
    forms."""

    is_physical = False
    in_light = False
    bytes_per_pixel = 7500
    expands = True

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__()
        self.ablation = config.ablation
        self.focus = Focus(start.focus_distances, start.typical_depth, start.noted)
        # Where its radius equals the physical one. It is a length in the scene, so focal lengths do not
        # matter.
        K, ratios = start.K * start.typical_depth / start.fx, torch.ones(len(start.ratios))
        self.aperture = Aperture(K, ratios, config.per_photo_aperture, start.held)
        self.aperture.log_K.requires_grad_(not self.ablation.aperture)
        self.expansion = PaperExpansion(config.copies, start.center, start.extent, self.ablation)
        self.blend = None if self.ablation.cnn else BlendNet()

    def copies(self, base: Activated, camera: Camera, index: PhotoIndex, expanded: bool = True) -> Copies:
        if not expanded:
            return as_they_are(base)
        _, position = camera.pose_like(base[0])
        factors = self.expansion(base, position)
        return paper_copies(base, position, self.of(index), factors, self.ablation)

    def blended(self, renders: Float[Tensor, "S 3 H W"]) -> Float[Tensor, "3 H W"]:
        """By the weights of the blend CNN; alike without it."""
        if self.blend is None or len(renders) == 1:
            return super().blended(renders)
        return (renders * self.blend(renders)).sum(0)

    def of(self, index: PhotoIndex) -> PhotoLens:
        return PhotoLens(self.focus.distance(index), self.aperture.K(index))

    def coc_map(
        self, depths: Float[Tensor, "H W"], camera: Camera, index: PhotoIndex
    ) -> Float[Tensor, "H W"]:
        lens, z = self.of(index), depths.clamp(MIN_DEPTH, 1e9)
        distance = z * ray_lengths(camera).to(z)
        side = (lens.focus_distance - distance).sign()
        return paper_radius(distance, lens.focus_distance, lens.K) * side * (2 * camera.fx / z)

    def diameter(self, K: float, camera: Camera) -> float:
        """Exact at the typical depth only, where a length in the scene stands for an angle."""
        return K / float(self.focus.typical_depth)


def paper_radius(distance: Tensor, focus_distance: Tensor, K: Tensor) -> Tensor:
    """Eq. 7 as the paper uses it, a radius in scene units, unsigned."""
    return coc_diameter(distance, focus_distance, K).abs() / 2


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
        all cameras, whose 10 bands are noise until learned (docs/lab/paper.md: what that gains)."""
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
    position: Float[Tensor, "3"],
    lens: PhotoLens,
    factors: PaperFactors,
    ablation: Ablation,
) -> Copies:
    """mean + (c / 2) beta d, scale x ds, quaternion x dq; plus the base set, last
    (docs/method.md, "CoCoGaussian")."""
    means, quats, scales, opacities = base
    distance = (means - position).norm(dim=-1)
    K = lens.K.detach() if ablation.aperture else lens.K * factors.K_factor
    radius = paper_radius(distance, lens.focus_distance, K)
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


def sphere_points(count: int) -> Float[Tensor, "{count} 3"]:
    """Evenly spread unit vectors (a Fibonacci sphere)."""
    index = torch.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * GOLDEN_ANGLE
    ring = torch.sqrt(1 - height.square())
    return torch.stack([ring * torch.cos(angle), ring * torch.sin(angle), height], dim=-1)
