"""How much brighter, and of what tint, each photo is than the scene."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.config import OptimConfig
from cocogs.optics.per_photo import PerPhoto


class Exposure(PerPhoto):
    """A gain on the light of every training photo, per colour; the geometric mean over the photos is 1.

    A camera left to itself changes exposure and white balance from photo to photo. Both scale light. Where
    nothing but a gain tells photos apart, the scene takes their mean exposure.
    """

    name = "exposure"

    def __init__(self, photos: int) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(photos, 3))

    def rate(self, optim: OptimConfig, progress: float) -> float:
        """Falls like that of positions, to 1 %; exposures may move from the first step on."""
        return optim.exposure * 0.01**progress

    def gains(self) -> Float[Tensor, "V 3"]:
        """Factors on red, green and blue light."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    def forward(self, light: Float[Tensor, "3 H W"], index: int) -> Float[Tensor, "3 H W"]:
        """Linear light as training photo `index` was exposed."""
        return light * self.gains()[index][:, None, None]

    def shown(self) -> dict[str, list[float]]:
        return {"gain": self.gains().mean(1).tolist()}
