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
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) / deviation).square() / 2)
    weights = (kernel / kernel.sum()).tolist()
    height, width = photo.shape[1:]
    padded = F.pad(photo[:, None], (reach, reach, reach, reach), mode="replicate")[:, 0]
    # Sums of shifted pictures: on a CPU five times as fast as a convolution with one channel.
    rows = weights[reach] * padded[:, :, reach : reach + width]
    for step, weight in enumerate(weights[:reach]):
        last = 2 * reach - step
        rows.add_(padded[:, :, step : step + width], alpha=weight)
        rows.add_(padded[:, :, last : last + width], alpha=weight)
    blurred = weights[reach] * rows[:, reach : reach + height]
    for step, weight in enumerate(weights[:reach]):
        last = 2 * reach - step
        blurred.add_(rows[:, step : step + height], alpha=weight)
        blurred.add_(rows[:, last : last + height], alpha=weight)
    return blurred
