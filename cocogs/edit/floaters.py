"""Splats that float where the photos see nothing: in front of the surfaces, far from them."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.render.refocusing import sharp_depth
from cocogs.render.shares import light_shares
from cocogs.spread import some_of

VIEWS = 48  # photos at most that are looked from
LONGEST = 480  # px of the longer side of what is looked at
CLEAR = 0.05  # of the depth that a splat must lie in front of the surface
SIGMAS = 2.0  # or of its own size, if that is more
WINDOW = 5  # px; the surface is the nearest one around a splat's place
FEWEST = 2  # views that see through it
ROUNDS = 3
SEEN = 0.5  # px; the light of a splat that counts as seen


def floaters(gaussians: Gaussians, cameras: list[Camera], strength: float = 1.0) -> Bool[Tensor, " N"]:
    """Splats that photos look through, more than show them at their surface: they lie clearly in front of it.

    Those found are taken away and the rest is looked at again, since floaters hide each other.

    Args:
        strength: 1 is cautious; 2 takes splats half as far in front of surfaces.

    Raises:
        InputError: there are no cameras.
    """
    if not cameras:
        raise InputError("`select` floaters needs the photos' cameras: put SCENE.lens.json beside the .ply.")
    left = torch.arange(len(gaussians))
    for _ in range(ROUNDS):
        found = _seen_through(gaussians[left.to(gaussians.means.device)], small(cameras), strength)
        if not found.any() or found.all():
            break
        left = left[~found]
    result = torch.ones(len(gaussians), dtype=torch.bool)
    result[left] = False
    return result


def _seen_through(gaussians: Gaussians, cameras: list[Camera], strength: float) -> Bool[Tensor, " N"]:
    """Splats that more photos look through than show at their surface."""
    means, largest = gaussians.means.detach(), gaussians.scales.detach().exp().amax(1)
    through = torch.zeros(len(gaussians), dtype=torch.long, device=means.device)
    at_surface = torch.zeros_like(through)
    for camera in cameras:
        surface, z, shown = camera.looked_up(means, nearest_around(sharp_depth(gaussians, camera)))
        seen = shown & surface.isfinite()  # before nothing, nothing tells what floats
        margin = torch.maximum(CLEAR * surface, SIGMAS * largest) / strength
        through += seen & (z < surface - margin)
        at_surface += seen & ((z - surface).abs() <= margin)
    return ((through >= FEWEST) & (through > at_surface)).cpu()


def nearest_around(depth: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """The nearest depth in a window around each pixel."""
    return -F.max_pool2d(-depth[None], WINDOW, stride=1, padding=WINDOW // 2)[0]


def small(cameras: list[Camera]) -> list[Camera]:
    """Some of the cameras, evenly, at a size at which looking is quick."""
    return [c.resized_by(c.shrink_to(LONGEST)) for c in some_of(cameras, VIEWS)]


def seen_by(gaussians: Gaussians, cameras: list[Camera]) -> Int64[Tensor, " N"]:
    """In how many photos each splat is seen.

    Raises:
        InputError: there are no cameras.
    """
    if not cameras:
        raise InputError("`select` photos needs the photos' cameras: put SCENE.lens.json beside the .ply.")
    count = torch.zeros(len(gaussians), dtype=torch.long)
    for camera in cameras:
        pictures = torch.ones(3, camera.height, camera.width)
        count += (light_shares(gaussians, camera, pictures)[0] > SEEN).cpu()
    return count
