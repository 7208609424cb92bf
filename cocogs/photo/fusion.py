"""From aligned slices to one sharp picture: by the map of sharp slices, or by Laplacian pyramids.

Both add up linear light.
"""

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics.sharpness import gaussian_blur

LEVELS = 4  # of the pyramid, above its base
MARGIN = 48  # px around a tile that decide about its pixels, too; a multiple of 2^LEVELS
PYRAMID_WINDOW = 2.0  # px of each level over which its contrast is averaged
MIXED = 2.0  # half of the way between two slices is a mixture; 1 would blur more, 10 keep more noise
FEATHER = 1.5  # px; standard deviation of the border of what a user retouched


def by_map(
    codes: Integer[Tensor, "S 3 H W"], curve: Float[Tensor, " V"], index: Float[Tensor, "H W"]
) -> Float[Tensor, "3 H W"]:
    """Each pixel from the slice nearest to its `index`, or, halfway between two, from both.

    Args:
        codes: pixel values.
        curve: the light of each.
    """
    lower = index.floor().clamp(0, len(codes) - 2).long()
    part = (MIXED * (index - lower - 0.5) + 0.5).clamp(0, 1)
    one, other = (curve[_taken(codes, lower + k).int()] for k in (0, 1))
    return one * (1 - part) + other * part


def by_pyramid(light: Float[Tensor, "S 3 H W"], there: Bool[Tensor, "S H W"]) -> Float[Tensor, "3 H W"]:
    """At each level of the slices' Laplacian pyramids (Burt and Adelson, 1983) the coefficients of the slice
    with the most contrast around; of the bases, the mean.

    Args:
        there: which pixels each slice shows.
    """
    fused, shown = [], there[:, None].to(light)
    for _ in range(LEVELS):
        smaller = _halved(light)
        detail = light - _doubled(smaller, light.shape[-2:])
        contrast = gaussian_blur(detail.square().sum(1), PYRAMID_WINDOW)
        contrast = torch.where(shown[:, 0] > 0.99, contrast, -1.0)
        fused.append(_taken(detail, contrast.argmax(0)))
        light, shown = smaller, _halved(shown)
    weight = (shown > 0.99).to(light) + 1e-6
    picture = (light * weight).sum(0) / weight.sum(0)
    for detail in reversed(fused):
        picture = detail + _doubled(picture[None], detail.shape[-2:])[0]
    return picture.clamp_min(0)


def retouched(
    picture: Float[Tensor, "3 H W"],
    codes: Integer[Tensor, "S 3 H W"],
    curve: Float[Tensor, " V"],
    labels: Integer[Tensor, "H W"],
) -> Float[Tensor, "3 H W"]:
    """The picture with other slices where a user asked for them.

    Args:
        codes, curve: as in `by_map`.
        labels: numbers of slices, from 1; 0 leaves the picture as it is.
    """
    for number in labels.unique().tolist():
        if number:
            part = gaussian_blur((labels == number)[None].to(picture), FEATHER)[0]
            picture = picture + part * (curve[codes[number - 1].int()] - picture)
    return picture


def _taken(values: Shaped[Tensor, "S 3 H W"], index: Integer[Tensor, "H W"]) -> Shaped[Tensor, "3 H W"]:
    return torch.gather(values, 0, index[None, None].expand(1, 3, -1, -1))[0]


def _halved(values: Float[Tensor, "S C H W"]) -> Float[Tensor, "S C h w"]:
    """Every second pixel after a binomial blur."""
    channels = values.shape[1]
    kernel = _binomial(values).view(1, 1, -1)
    kernel = (kernel.mT * kernel).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(values, (2, 2, 2, 2), mode="replicate"), kernel, stride=2, groups=channels)


def _doubled(values: Float[Tensor, "S C h w"], size: tuple[int, ...]) -> Float[Tensor, "S C H W"]:
    """The inverse in size: zeros between the pixels, then twice the blur."""
    channels = values.shape[1]
    kernel = 2 * _binomial(values).view(1, 1, -1)
    kernel = (kernel.mT * kernel).expand(channels, 1, 5, 5)
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    spread = padded.new_zeros(*padded.shape[:2], 2 * padded.shape[2], 2 * padded.shape[3])
    spread[:, :, ::2, ::2] = padded
    blurred = F.conv2d(spread, kernel, padding=2, groups=channels)[:, :, 2:, 2:]
    return blurred[:, :, : size[0], : size[1]]


def _binomial(values: Tensor) -> Tensor:
    return torch.tensor([1, 4, 6, 4, 1]).to(values) / 16
