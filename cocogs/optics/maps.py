"""Depth and circles of confusion of a whole picture, as numbers and in colour."""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.quantiles import quantiles

FULL_COLOR = 0.02  # the circle of confusion, as a part of the image width, that gets the full colour
NEAR_COLOR, FAR_COLOR = (1.0, 0.45, 0.0), (0.0, 0.4, 1.0)


def ray_lengths(camera: Camera) -> Float[Tensor, "H W"]:
    """Distance from the camera of the points at depth 1, through the pixel centres."""
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return (x.square() + y[:, None].square() + 1).sqrt()


def colored_coc(coc: Float[Tensor, "H W"], alphas: Float[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """White in focus, orange nearer, blue beyond, black where nothing is.

    Args:
        coc: signed diameters in px.
        alphas: in [0, 1].
    """
    strength = (coc.abs() / (FULL_COLOR * coc.shape[1])).clamp(0, 1)
    near, far = (torch.tensor(color).to(coc)[:, None, None] for color in (NEAR_COLOR, FAR_COLOR))
    return (1 - strength * (1 - torch.where(coc > 0, near, far))) * alphas


def colored_depth(depths: Float[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """Orange near, white between, blue far, evenly in 1/z over what the picture shows; black where nothing
    is.

    Args:
        depths: z-depths in scene units, infinite where nothing is.
    """
    there = depths.isfinite()
    if not there.any():
        return torch.zeros(3, *depths.shape)
    inverse = 1 / depths
    low, high = quantiles(inverse[there], 0.02, 0.98)
    nearness = ((inverse - low) / (high - low).clamp_min(1e-12) * 2 - 1).clamp(-1, 1)
    return colored_coc(nearness * FULL_COLOR * depths.shape[1], there.to(depths))
