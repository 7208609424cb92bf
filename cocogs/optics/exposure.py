"""How much brighter, and of what tint, each photo is than the scene."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Exposure(nn.Module):
    """A gain per training photo and colour, learned; their geometric mean over the photos is 1.

    A camera left to itself changes exposure and white balance from photo to photo. Both scale the light, and
    so very nearly the pixel values too: sRGB is close to a power law, which turns factors into factors.
    Where nothing but a gain tells photos apart the scene takes their mean exposure.
    """

    def __init__(self, photos: int) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(photos, 3))

    def gains(self) -> Float[Tensor, "V 3"]:
        """Factors on red, green and blue."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    def forward(self, image: Float[Tensor, "3 H W"], view_index: int) -> Float[Tensor, "3 H W"]:
        """The picture as training photo `view_index` was exposed."""
        return image * self.gains()[view_index][:, None, None]
