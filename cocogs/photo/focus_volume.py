"""Which slice of a bracket is sharp at each pixel: sharpness of all slices, made one smooth map.

Sharpness is the sum of the absolute second differences along x and y (Nayar and Nakagawa, 1994), averaged
over a few pixels. What a slice costs at a pixel is the logarithm of how much less sharp it is there than the
sharpest one; noise, added to both, makes flat surfaces cost nothing. Semi-global matching (Hirschmueller,
2008) then finds slices that cost little and change little from pixel to pixel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics.sharpness import gaussian_blur

WINDOW = 1.5  # px; standard deviation of the Gaussian over which sharpness is averaged
STEP, JUMP = 0.2, 1.2  # what it costs to change by one slice, by more, from a pixel to the next
ABSENT = 50.0  # what a slice costs where it shows nothing
QUIETEST = 1e-3  # sharpness of the noise of 8-bit pixels


@dataclass(frozen=True)
class SharpSlices:
    """Where each pixel is sharp.

    Args:
        index: between 0 and the number of slices - 1; between two slices where sharpness says so.
        confidence: in [0, 1]; 0 where no slice is sharper than others, or where the surroundings decided;
            less where some slices show nothing.
    """

    index: Float[Tensor, "H W"]
    confidence: Float[Tensor, "H W"]


def sharpness(grey: Float[Tensor, "S H W"]) -> Float[Tensor, "S H W"]:
    """Mean absolute second differences around each pixel of sRGB-encoded grey values in [0, 1]."""
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    twice = 2 * grey
    detail = (twice - padded[:, 1:-1, :-2] - padded[:, 1:-1, 2:]).abs()
    detail += (twice - padded[:, :-2, 1:-1] - padded[:, 2:, 1:-1]).abs()
    return gaussian_blur(detail, WINDOW)


def find_sharp_slices(
    sharp: Float[Tensor, "S H W"], there: Bool[Tensor, "S H W"], noise: float
) -> SharpSlices:
    """The slice that is sharp at each pixel.

    Args:
        sharp: `sharpness` of the slices.
        there: which pixels each slice shows.
        noise: `sharpness` that noise alone has.
    """
    cost = -(sharp + noise).log()
    cost = torch.where(there, cost, torch.inf)
    cost = cost - cost.amin(0)
    # Half of the slices cost more than this; those that show nothing do not count.
    typical = cost.masked_fill(~there, torch.nan).nanmedian(0).values.nan_to_num(0)
    cost = cost.clamp_max(ABSENT)
    least = _matched(cost).argmin(0)
    same = (least - cost.argmin(0)).abs() <= 1
    index = _between(gaussian_blur(cost, WINDOW), least)
    confidence = (1 - (-typical).exp()) * there.to(cost).mean(0)
    return SharpSlices(index, torch.where(same, confidence, torch.zeros_like(typical)))


def _matched(cost: Float[Tensor, "S H W"]) -> Float[Tensor, "S H W"]:
    """Costs of the cheapest ways to each pixel from left, right, above and below, added up."""
    down, right = cost.permute(1, 0, 2).contiguous(), cost.permute(2, 0, 1).contiguous()
    vertical = _swept(down) + _swept(down.flip(0)).flip(0)
    horizontal = _swept(right) + _swept(right.flip(0)).flip(0)
    return vertical.permute(1, 0, 2) + horizontal.permute(1, 2, 0) - 3 * cost


def _swept(cost: Float[Tensor, "L S W"]) -> Float[Tensor, "L S W"]:
    """Costs of the cheapest ways along the first dimension."""
    total = torch.empty_like(cost)
    before = total[0] = cost[0]
    edge = before.new_full((1, before.shape[1]), torch.inf)
    for row in range(1, len(cost)):
        least = before.amin(0)
        neighbour = torch.minimum(torch.cat([before[1:], edge]), torch.cat([edge, before[:-1]])) + STEP
        before = cost[row] + torch.minimum(torch.minimum(before, neighbour), least + JUMP) - least
        total[row] = before
    return total


def _between(cost: Float[Tensor, "S H W"], least: Int[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Where along the slices a parabola through the costs of the slice found and its neighbours is least.
    (The matched costs would find it too near to whole numbers.)"""
    if len(cost) < 3:
        return least.to(cost)
    inner = least.clamp(1, len(cost) - 2)
    before, at, after = (torch.gather(cost, 0, (inner + k)[None])[0] for k in (-1, 0, 1))
    offset = ((before - after) / (2 * (before - 2 * at + after)).clamp_min(1e-9)).clamp(-0.5, 0.5)
    return least + torch.where(least == inner, offset, torch.zeros_like(offset))
