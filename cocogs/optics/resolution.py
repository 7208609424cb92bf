"""How fine a detail the photos can tell: what even the sharpest photo of a place blurs away is in none."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.optics.lens import PhotoLens, blur_variance
from cocogs.rasterize.constants import PIXEL_VARIANCE


@torch.no_grad()
def least_blur(
    means: Float[Tensor, "N 3"], cameras: Sequence[Camera], lenses: Sequence[PhotoLens]
) -> Float[Tensor, " N"]:
    """Standard deviation, in scene units, of the blur that the sharpest photo of each place has there: by its
    lens, by its softness and by its pixels.

    A photo counts for the places inside its picture, hidden ones too. 0 where no photo looks.

    Args:
        means: the places.
        cameras, lenses: of the photos.
    """
    least = torch.full_like(means[:, 0], math.inf)
    for camera, lens in zip(cameras, lenses, strict=True):
        pixels, z = camera.project(means)
        seen = (z > camera.near) & camera.shows(pixels)
        variance = blur_variance(lens.coc(z)) + lens.softness + PIXEL_VARIANCE
        blur = variance.sqrt() * z / camera.fx
        least = torch.where(seen & (blur < least), blur, least)
    return torch.where(least.isfinite(), least, 0)
