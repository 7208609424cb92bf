"""The shape of the aperture, round or bladed, as points that sample it."""

import math
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.optics.lens import DISC_SIGMA
from cocogs.plain_torch import serves_gradients

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""Radians; turns by it never come back to where one of them was."""


def lens_samples(
    count: int, overlap: float = 1.0, blades: int = 0, rotation: float = 0.0, settled: bool = False
) -> Float[Tensor, "{count} 2"]:
    """Points of the aperture, a sunflower of equal areas, for the lens's sub-apertures.

    Coordinates x right and y down, in radii of the circle of the aperture's area: the unit disc, or the
    regular polygon of area pi. Each point stands for a sub-aperture of radius sqrt(overlap / count), drawn
    as the Gaussian of `DISC_SIGMA` times that. The pattern is centred and scaled so that its variance plus
    the Gaussians' equals the whole aperture's: without this the sampled lens would be too wide by about
    1/count.

    Args:
        overlap: area of the sub-apertures together, in areas of the aperture; at most `count`.
        blades: corners of the polygon, at least 3; 0 for a disc.
        rotation: of the polygon, degrees from x towards y; 0 puts a corner at the right.
        settled: move every point to the middle of what is nearest to it, until they are spread evenly
            and along the rim (Lloyd 1982): 64 points then show the aperture's shape, a sunflower of 64 frays.
    """
    points = _settled(count, blades) if settled else _sunflower(count, blades)
    points = turned(points - points.mean(0), points.new_tensor(math.radians(rotation)))
    if count == 1:
        return points.float()
    variance = points.square().mean()
    left = max(0.0, _variance(blades) - DISC_SIGMA**2 * overlap / count)
    return (points * math.sqrt(left / float(variance))).float()


def turned(points: Float[Tensor, "P 2"], angle: Float[Tensor, ""]) -> Float[Tensor, "P 2"]:
    """Points of the plane, turned about 0 by an angle in radians, x towards y."""
    x, y = points.unbind(1)
    return torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], 1)


@cache
def sampled_disc(count: int) -> float:
    """The width, in discs, at which `lens_samples(count)` and their Gaussians come nearest to the disc.

    By least squares, as `DISC_SIGMA`: 1 for a single sample, 1.11 for 5, 1.04 for 16. Few samples of the
    disc's own variance blur too little, because they leave gaps.
    """
    if count == 1:
        return 1.0
    from scipy.optimize import minimize_scalar  # .1 s to load, for `full` only

    x = torch.linspace(-3, 3, 301, dtype=torch.float64)
    plane, points = torch.cartesian_prod(x, x), lens_samples(count).double()
    disc = (plane.norm(dim=1) <= 1) / math.pi

    def distance(scale: float) -> float:
        variance = (DISC_SIGMA * scale) ** 2 / count
        away = torch.cdist(plane, scale * points).square()
        samples = torch.exp(-away / (2 * variance)).mean(1) / (2 * math.pi * variance)
        return float((samples - disc).square().sum())

    found: Any = minimize_scalar(distance, bounds=(0.9, 1.3), method="bounded")
    return found.x


def _sunflower(count: int, blades: int) -> Float[Tensor, "{count} 2"]:
    index = torch.arange(count, dtype=torch.float64) + 0.5
    return torch.sqrt(index / count)[:, None] * _rim(index * GOLDEN_ANGLE / (2 * math.pi), blades)


@cache
@serves_gradients
def _settled(count: int, blades: int) -> Float[Tensor, "{count} 2"]:
    from scipy.spatial import KDTree  # .3 s, for final pictures only

    points, aperture = _sunflower(count, blades), _sunflower(32 * count, blades)
    for _ in range(20):
        nearest = torch.from_numpy(KDTree(points.numpy()).query(aperture.numpy())[1])
        share = torch.bincount(nearest, minlength=count)[:, None]
        points = torch.zeros_like(points).index_add_(0, nearest, aperture) / share
    return points


def _rim(turns: Float[Tensor, " *P"], blades: int) -> Float[Tensor, "*P 2"]:
    """Points of the aperture's rim, `turns` times around it: scaled towards the centre by the root
    of a uniform number, points spread evenly along the rim spread evenly over the area."""
    angle = 2 * math.pi * turns
    if blades == 0:
        return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
    sector = 2 * math.pi / blades
    corner = torch.floor(turns * blades)
    along = (turns * blades - corner)[..., None]
    angle = corner * sector
    start, end = (torch.stack([torch.cos(a), torch.sin(a)], dim=-1) for a in (angle, angle + sector))
    return corner_radius(blades) * torch.lerp(start, end, along)


def corner_radius(blades: int) -> float:
    """Distance of the corners of a regular polygon of area pi from its centre."""
    sector = 2 * math.pi / blades
    return math.sqrt(sector / math.sin(sector))


def _variance(blades: int) -> float:
    """Per axis, of the unit disc (1/4) or the regular polygon of area pi (a little more)."""
    if blades == 0:
        return 1 / 4
    return corner_radius(blades) ** 2 * (2 + math.cos(2 * math.pi / blades)) / 12
