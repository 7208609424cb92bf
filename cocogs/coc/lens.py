"""The thin lens, as pure functions (METHOD.md section 2).

Symbols: z depth of a point along the optical axis, z_f `focus_distance`, both in scene units;
K `aperture` = aperture diameter (scene units) x fx (px). All functions broadcast, keep gradients,
and are signed: positive on the near side of the focus plane, negative beyond it. The sign is what
makes lens samples occlude each other correctly; the size of the blur is the absolute value.

Lee et al., CoCoGaussian, CVPR 2025, Eq. 7 holds for z_f much larger than the focal length.
"""

import math

import torch
from torch import Tensor

MIN_DEPTH = 1e-2  # scene units; the rasterizer's near plane: nothing nearer is drawn


def coc_diameter(z: Tensor, focus_distance: Tensor, aperture: Tensor) -> Tensor:
    """Signed diameter of the circle of confusion in px: c = K (1/z - 1/z_f).

    Args:
        z: depths (...,) in scene units; values under `MIN_DEPTH` count as `MIN_DEPTH`.
        focus_distance: > 0, scene units; infinity is allowed.
        aperture: K >= 0 in px x scene unit.
    """
    return aperture * (1 / z.clamp_min(MIN_DEPTH) - 1 / focus_distance)


def blur_variance(coc: Tensor) -> Tensor:
    """Variance per axis, in px^2, of a uniform disc of diameter `coc` px: r^2 / 4 = c^2 / 16."""
    return coc.square() / 16


def world_radius(
    z: Tensor, focus_distance: Tensor, aperture: Tensor, fx: float, units: str = "world"
) -> Tensor:
    """Signed radius of the circle of confusion in scene units, at depth z.

    `units="world"` projects the diameter in px back to the depth z: r = (K / fx) / 2 (1 - z / z_f).
    A point seen from the point u of the unit aperture disc moves sideways by -r u against the
    re-aimed camera, dx(u) = a u (z / z_f - 1) with the aperture radius a = K / (2 fx).
    `units="paper"` is Eq. 7 as the paper uses it: K |1/z - 1/z_f| / 2 taken as a world length,
    unsigned. It lacks a factor z / fx, for which its learned factors have to make up.

    Raises:
        ValueError: `units` is neither.
    """
    if units == "world":
        return aperture / fx / 2 * (1 - z / focus_distance)
    if units == "paper":
        return coc_diameter(z, focus_distance, aperture).abs() / 2
    raise ValueError(f"units must be 'world' or 'paper', not {units!r}.")


def lens_samples(count: int) -> Tensor:
    """(count, 2) points of the unit disc, a sunflower of equal areas, for the lens's sub-apertures.

    Each stands for a sub-aperture of radius 1/sqrt(count) whose own variance per axis is
    1/(4 count). The pattern is centred and scaled so that its variance plus the sub-apertures'
    equals the disc's, 1/4 per axis: without this the sampled lens would be too wide by 1/count.
    """
    index = torch.arange(count, dtype=torch.float64) + 0.5
    radius, angle = torch.sqrt(index / count), index * math.pi * (3 - math.sqrt(5))
    points = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    points = points - points.mean(0)
    if count == 1:
        return points.float()
    variance = points.square().mean()
    return (points * torch.sqrt((1 - 1 / count) / 4 / variance)).float()


def camera_depth(points: Tensor, cam_from_world: Tensor, depth: str = "z") -> Tensor:
    """Depth (N,) of world points (N, 3): along the optical axis, or the paper's Euclidean distance.

    Raises:
        ValueError: `depth` is neither "z" nor "euclidean".
    """
    if depth == "z":
        return points @ cam_from_world[2, :3] + cam_from_world[2, 3]
    if depth == "euclidean":
        position = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
        return (points - position).norm(dim=-1)
    raise ValueError(f"depth must be 'z' or 'euclidean', not {depth!r}.")
