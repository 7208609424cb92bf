"""The thin lens through M points of its aperture, with learned residuals and a blend CNN.

The residuals come from a small MLP. It sees the camera position and the base Gaussian with gradients stopped,
so that it describes the lens and never moves the scene.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.gaussians import Activated
from cocogs.optics.aperture import lens_samples, sampled_disc
from cocogs.optics.blend import BlendNet
from cocogs.optics.copies import Copies
from cocogs.optics.encoding import GaussianEncoding, mlp
from cocogs.optics.lens import (
    DISC_SIGMA,
    PhotoLens,
    blur_variance,
    coc_diameter,
    world_radius,
)
from cocogs.optics.lens_models.base import Start
from cocogs.optics.lens_models.widened import Widened

# Splats at most that tell how wide the learned lens is: all of them would take seconds a photo.
ASKED = 10_000


class Sampled(Widened):
    """M copies of every Gaussian, each through one part of the aperture; `Widened` while the scene forms.

    Near things then hide far ones partially, as they do in a lens.
    """

    bytes_per_pixel = 900
    expands = True

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__(config, start)
        self.expansion = ResidualExpansion(config.copies, start.center, start.extent)
        self.blend = BlendNet(config.blend_channels) if config.blend_channels else None

    def copies(self, base: Activated, camera: Camera, index: int, expanded: bool = True) -> Copies:
        if not expanded:
            return super().copies(base, camera, index)
        _, position = camera.pose_like(base[0])
        return sample_lens(base, camera, self.of(index), self.expansion(base, position))

    @torch.no_grad()
    def widening(self, base: Activated, camera: Camera) -> float:
        """The median over the splats; the learned residuals shift it by some per cent."""
        every = max(1, len(base[0]) // ASKED)
        some = tuple(part[::every] for part in base)
        _, position = camera.pose_like(base[0])
        return float(self.expansion(some, position).spread().median())


def sample_lens(base: Activated, camera: Camera, lens: PhotoLens, residuals: "LensResiduals") -> Copies:
    """M copies, each seen through one sub-aperture: shifted sideways and widened by the sub-aperture.

    `residuals` at zero give the physical lens: what is nearest to its disc (`sampled_disc`).
    """
    means, quats, scales, opacities = base
    rotation = camera.pose_like(means)[0][:3, :3]
    z = camera.depths(means)
    K = lens.K * residuals.K_factor * sampled_disc(len(residuals.widths))
    radius = world_radius(z, lens.focus_distance, K, camera.fx)
    # -r u in the camera's x and y; the rows of the rotation are its axes in the world.
    right, down = (-radius * residuals.directions[..., axis] for axis in (0, 1))
    offsets = torch.stack([right * x + down * y for x, y in rotation[:2].T], -1)
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
