"""How fine a detail the photos can tell: what even the sharpest photo of a place blurs away is in none."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.optics.focus import FocusPlanes
from cocogs.optics.lens import MIN_DEPTH, blur_variance, coc_diameter
from cocogs.rasterize.constants import PIXEL_VARIANCE


@torch.no_grad()
def least_blur(means: Float[Tensor, "N 3"], cameras: list[Camera], focus: FocusPlanes) -> Float[Tensor, " N"]:
    """Standard deviation, in scene units, of the blur that the sharpest photo of each place has there: by
    its lens, by its softness and by its pixels.

    A photo counts for the places inside its picture, hidden ones too. 0 where no photo looks.

    Args:
        means: the places.
        cameras: of the photos that `focus` knows, in its order.
    """
    least = torch.full_like(means[:, 0], math.inf)
    for index, camera in enumerate(cameras):
        pixels, z = camera.project(means)
        seen = (z > MIN_DEPTH) & camera.shows(pixels)
        coc = coc_diameter(z, focus.focus_distance(index), focus.K(index))
        blur = (blur_variance(coc) + focus.softness[index] + PIXEL_VARIANCE).sqrt() * z / camera.fx
        least = torch.where(seen & (blur < least), blur, least)
    return torch.where(least.isfinite(), least, 0)
