"""The ways in which others blur a picture by its depth, to compare with."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics.layers import aperture_kernel

STEP = 1.0  # px of blur between the kernels; pixels between two share them


def gather(light: Float[Tensor, "3 H W"], coc: Float[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """Every pixel shows the mean over its own circle of confusion, whatever lies there."""
    return sum(share * _blurred(light, diameter) for diameter, share in _levels(coc))  # pyright: ignore


def scatter(light: Float[Tensor, "3 H W"], coc: Float[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """Every pixel spreads over its circle of confusion, whatever lies there; then the light is normalised."""
    unit = torch.cat([light, torch.ones_like(coc)[None]])
    spread = sum(_blurred(share * unit, diameter) for diameter, share in _levels(coc))
    assert isinstance(spread, Tensor)
    return spread[:3] / spread[3:].clamp_min(1e-3)


def layers_without_fill(light: Float[Tensor, "3 H W"], coc: Float[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """Layers of depth, composited far to near, with nothing where nearer things hide them."""
    unit = torch.cat([light, torch.ones_like(coc)[None]])
    shown = torch.zeros_like(unit)
    for diameter, share in _levels(coc):
        layer = _blurred(share * unit, diameter)
        shown = shown * (1 - layer[3:].clamp(0, 1)) + layer
    return shown[:3] / shown[3:].clamp_min(1e-3)


def _levels(coc: Float[Tensor, "H W"]) -> Iterator[tuple[float, Float[Tensor, "H W"]]]:
    """Diameters from far to near, and how much each pixel belongs to each."""
    place = coc / STEP
    for level in range(math.floor(float(place.min())), math.ceil(float(place.max())) + 1):
        yield level * STEP, (1 - (place - level).abs()).clamp_min(0)


def _blurred(values: Float[Tensor, "C H W"], diameter: float) -> Float[Tensor, "C H W"]:
    margin = math.ceil(abs(diameter) / 2) + 2
    padded = F.pad(values[None], (margin,) * 4, mode="replicate")[0]
    size = tuple(padded.shape[1:])
    kernel = aperture_kernel(torch.tensor(diameter).to(values), size)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * kernel, s=size)
    return blurred[:, margin:-margin, margin:-margin]
