"""How much brighter, and of what tint, each photo is than the scene."""

import torch
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

    def gains(self) -> Tensor:
        """(V, 3) factors on red, green and blue."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    def forward(self, image: Tensor, view_index: int) -> Tensor:
        """The picture (3, H, W) as training photo `view_index` was exposed."""
        return image * self.gains()[view_index][:, None, None]
