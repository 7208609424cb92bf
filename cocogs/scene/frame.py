"""Where a scene lies in its world: its size, its offset from the source's origin, its near plane, parallax.

Nothing here depends on the unit of length: a scene a thousand times larger gives the same answers, scaled.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.io.source import Source
from cocogs.scene.overlap import seen_by

# float32 rounds a coordinate by up to 2^-24 of itself. Positions shall be right to 1e-6 of the scene's size,
# so coordinates may be up to 17 times as large as the scene.
FARTHEST_ORIGIN = 1e-6 * 2**24
# Cameras closer together than this part of their distance to the points stand in one place.
ONE_PLACE = 1e-6
# Near plane as a part of the typical depth. A COLMAP model is some 10 units deep, for which 3DGS uses a near
# plane of 0.01. A splat nearer than that is a speck before the lens, yet covers the picture.
NEAR_PART = 1e-3
# Points that the typical depth and the parallax are measured on.
SAMPLE = 2000


def size_of(positions: Tensor, points: Tensor | None) -> float:
    """Size of the scene as 3DGS defines it: 1.1 x the largest distance of a camera from their mean position.

    Where all cameras stand in one place: the median distance of the points; 1 where that is zero, too.

    Args:
        positions: (C, 3) camera centres, scene units.
        points: (P, 3), or None.
    """
    centre = positions.mean(dim=0)
    size = 1.1 * float((positions - centre).norm(dim=1).max())
    if points is None:
        return size
    distance = float((points.double() - centre).norm(dim=1).median())
    return size if size > ONE_PLACE * distance else distance or 1.0


def is_one_place(positions: Tensor) -> bool:
    """Whether (C, 3) float64 camera centres differ by no more than rounding does."""
    spread = (positions - positions[0]).abs().max()
    return bool(spread <= 1e-12 * positions.abs().max())


def offset_of(positions: Tensor, points: Tensor | None) -> Tensor:
    """(3,) float64 to subtract from all coordinates before they become float32; zero where none is needed.

    It is a whole multiple of the power of ten next above the scene's size, so that small differences between
    computers do not change it.
    """
    centre, size = positions.mean(dim=0), size_of(positions, points)
    if float(centre.abs().max()) <= FARTHEST_ORIGIN * size:
        return torch.zeros(3, dtype=torch.float64)
    if size == 0:
        return centre
    unit = 10.0 ** math.ceil(math.log10(size))
    return (centre / unit).round() * unit


def moved(source: Source, offset: Tensor) -> Source:
    """The source with its world's origin moved to `offset`."""
    if not bool(offset.any()):
        return source
    shots = []
    for shot in source.shots:
        pose = shot.cam_from_world.clone()
        pose[:3, 3] += pose[:3, :3] @ offset
        shots.append(replace(shot, cam_from_world=pose))
    points = None if source.points is None else source.points - offset
    return replace(source, shots=shots, points=points)


def near_plane(cameras: Sequence[Camera], points: Tensor) -> float:
    """Nearest depth to draw: a thousandth of the points' typical depth, in scene units."""
    return NEAR_PART * typical_depth(cameras, points)


def typical_depth(cameras: Sequence[Camera], points: Tensor) -> float:
    """How far away the scene is, in scene units: the median over the cameras of the median depth of the
    points that each one sees. Where no camera sees a point, it is the scene's size.

    Args:
        points: (P, 3), scene units.
    """
    sample = _sample(points)
    depths = []
    for camera in cameras:
        pixels, depth = camera.project(sample)
        if bool((seen := camera.shows(pixels) & (depth > 0)).any()):
            depths.append(float(depth[seen].median()))
    if not depths:
        return size_of(torch.stack([camera.position for camera in cameras]), points)
    return float(torch.tensor(depths, dtype=torch.float64).median())


def parallax(cameras: Sequence[Camera], points: Tensor) -> float:
    """Degrees: the median over the points of the largest angle between rays to the cameras that see it.

    0 where no camera sees a point. The largest angle is approximated by twice that from the mean ray.
    """
    sample = _sample(points)
    seen = seen_by(cameras, sample)
    seen &= seen.sum(dim=0) >= 2
    if not bool(seen.any()):
        return 0.0

    def rays() -> Iterator[Tensor]:
        for camera in cameras:  # one at a time: those of 2,000 cameras would take 100 MB
            yield torch.nn.functional.normalize(sample - camera.position, dim=1, eps=1e-300)

    total = torch.zeros_like(sample)
    for visible, ray in zip(seen, rays(), strict=True):
        total += ray * visible[:, None]
    mean, cosines = torch.nn.functional.normalize(total, dim=1), torch.ones_like(sample[:, 0])
    for visible, ray in zip(seen, rays(), strict=True):
        cosines = torch.where(visible, torch.minimum(cosines, (ray * mean).sum(dim=1)), cosines)
    angles = 2 * torch.rad2deg(torch.arccos(cosines.clamp(-1, 1)))
    return float(angles[seen.any(dim=0)].median())


def _sample(points: Tensor) -> Tensor:
    """(< 2 SAMPLE, 3) float64: every so many points, at least SAMPLE of more."""
    return points[:: max(1, len(points) // SAMPLE)].double()
