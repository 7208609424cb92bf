"""What the paper's MLP sees, and how it computes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.device import bf16_where_fast
from cocogs.gaussians import Activated


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
