"""How sharp a photo is around each pixel: the energy of its detail, and the blur that shaped it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

DETAIL_FLOOR = 1e-6  # gradient energy of noise
REBLUR = 1.0  # px; standard deviation of the blur added to measure that which is there


def gradient_energy(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Mean squared grey-level gradient over 7x7 px."""
    grey = photo.mean(0)
    dx = F.pad(grey[:, 1:] - grey[:, :-1], (0, 1))
    dy = F.pad(grey[1:] - grey[:-1], (0, 0, 0, 1))
    return F.avg_pool2d((dx.square() + dy.square())[None], 7, stride=1, padding=3)[0]


def blur_map(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Standard deviation in px of the blur around each pixel, its own softness included.

    Another blur of known size takes away little detail where there was much blur: for textures whose power
    falls with the square of frequency, energy is proportional to 1 / (blur^2 + added^2). NaN where there is
    no texture to tell from; soft texture looks like blur.
    """
    return blur_by_energies(gradient_energy(photo), gradient_energy(gaussian_blur(photo, REBLUR)))


def blur_by_energies(before: Float[Tensor, "*P"], after: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """See `blur_map`, from the gradient energies before and after blurring by `REBLUR`."""
    blur = REBLUR / (before / after.clamp_min(1e-12) - 1).clamp_min(1e-2).sqrt()
    return torch.where(before > 10 * DETAIL_FLOOR, blur, math.nan)


def gaussian_blur(photo: Float[Tensor, "C H W"], deviation: float) -> Float[Tensor, "C H W"]:
    """The photo convolved with a Gaussian of this standard deviation in px; borders repeated."""
    reach = math.ceil(3 * deviation)
    x = torch.arange(-reach, reach + 1, dtype=photo.dtype, device=photo.device)
    kernel = torch.exp(-(x / deviation).square() / 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(photo[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]
