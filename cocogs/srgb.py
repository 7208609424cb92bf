"""The display curve of photos and screens (sRGB, IEC 61966-2-1): light adds up, pixel values do not."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

CLIPPED = 0.998  # pixel value of photos; what is at least so bright may have been brighter


def to_linear(encoded: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Light of sRGB-encoded values >= 0; 1 is white, values above it follow the same curve."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def slope_to_linear(encoded: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Derivative of `to_linear`."""
    return torch.where(encoded <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((encoded + 0.055) / 1.055) ** 1.4)


def to_srgb(light: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sRGB-encoded values of linear light >= 0: the inverse of `to_linear`."""
    curved = light.clamp_min(0.0031308)  # the power's slope at 0 is infinite: NaN in a backward pass
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * curved ** (1 / 2.4) - 0.055)


SHOULDER = 0.7  # linear light, 87 % of an 8-bit value: what a photo shows brighter had been brighter still


def expand_highlights(light: Float[Tensor, "..."], white: float) -> Float[Tensor, "..."]:
    """The light that was there, where photos that cannot show so much show `light`: the same up to
    `SHOULDER`, then more and more, `white` >= 1 at their white 1. Above 1 counts as 1, unless `white` is 1.
    """
    return light if white == 1 else _bend(light, -_squeeze(white), most=1)


def compress_highlights(light: Float[Tensor, "..."], white: float) -> Float[Tensor, "..."]:
    """What the photos show of this light: the inverse of `expand_highlights`."""
    return light if white == 1 else _bend(light, _squeeze(white))


def _squeeze(white: float) -> float:
    """How strongly the curve bends whose inverse reaches `white` at 1."""
    return 1 - (1 - SHOULDER) / (white - SHOULDER)


def _bend(light: Float[Tensor, "..."], squeeze: float, most: float = math.inf) -> Float[Tensor, "..."]:
    """Light beyond `SHOULDER`, t of the way from there to 1 (at most `most`), moved to t / (1 + squeeze t):
    smooth at the shoulder, and undone by the opposite `squeeze`."""
    over = ((light - SHOULDER) / (1 - SHOULDER)).clamp(0, most)
    return torch.where(light > SHOULDER, SHOULDER + (1 - SHOULDER) * over / (1 + squeeze * over), light)
