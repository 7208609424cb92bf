"""Random points to start from, drawn where the photos look: for photos in which no feature matches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cocogs.camera import Camera, where_axes_meet

COUNT = 20_000


def draw_points(
    cameras: Sequence[Camera],
    bounds: Tensor | None,
    photo: Callable[[int], Tensor],
    mask: Callable[[int], Tensor | None],
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Points within the depth bounds that many cameras see, uniform over pixels and over inverse depth.

    Args:
        cameras: of the photos to draw from.
        bounds: (C, 2) nearest and farthest depth in scene units; None to guess them from the cameras.
        photo: gives photo i, (3, H, W), to take the colours from.
        mask: gives the mask of photo i, (H, W) with 0 = ignore, or None; points are drawn outside the ignored
            parts, unless a mask ignores the whole photo.
        seed: of the drawing.

    Returns:
        (P, 3) float32 positions and (P, 3) float32 colours.
    """
    ranges = guess_bounds(cameras) if bounds is None else bounds
    generator = torch.Generator().manual_seed(seed)
    per_camera = -(-3 * COUNT // len(cameras))
    drawn = [
        _draw(camera, bound, photo(index), mask(index), per_camera, generator)
        for index, (camera, bound) in enumerate(zip(cameras, ranges, strict=True))
    ]
    points, colors = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    seen = torch.zeros(len(points), dtype=torch.long)
    for camera, bound in zip(cameras, ranges, strict=True):
        seen += _inside(camera, bound, points)
    order = torch.randperm(len(points), generator=generator)
    # Stable: the points that at least half of the cameras see come first, then those seen by two or more.
    rank = (seen >= len(cameras) / 2).int() + (seen >= 2).int()
    best = order[rank[order].argsort(descending=True, stable=True)][:COUNT]
    return points[best].float(), colors[best]


def guess_bounds(cameras: Sequence[Camera]) -> Tensor:
    """(C, 2) float64 depth bounds in scene units, around the point that the cameras' axes come closest to."""
    positions = torch.stack([camera.position for camera in cameras])
    target, _ = where_axes_meet(cameras)
    depth = torch.stack([camera.depths(target) for camera in cameras])
    spread = float((positions - positions.mean(dim=0)).norm(dim=1).max())
    if not (torch.isfinite(depth).all() and bool((depth > 0.1 * spread).all())):
        # The axes are parallel or diverge. Farther away than this, the photos would show hardly any parallax.
        depth = torch.full((len(positions),), 3 * spread or 1.0, dtype=torch.float64)
    return torch.stack([0.3 * depth, 2 * depth], dim=1)


def _draw(
    camera: Camera,
    bound: Tensor,
    photo: Tensor,
    mask: Tensor | None,
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """`count` points (float64) in a camera's view, with the photo's colours there."""
    u, v, t = torch.rand(3, count, generator=generator, dtype=torch.float64)
    x, y = u * camera.width, v * camera.height
    if mask is not None and len(allowed := mask.nonzero()) > 0:
        row, column = allowed[(u * len(allowed)).long()].unbind(1)
        x, y = column + v, row + 0.5
    depth = 1 / (t / bound[0] + (1 - t) / bound[1])
    world = camera.unproject(torch.stack([x, y], dim=1), depth)
    return world, photo[:, y.long(), x.long()].T


def _inside(camera: Camera, bound: Tensor, points: Tensor) -> Tensor:
    """(P,) bool: in the picture and within the depth bounds."""
    pixels, depth = camera.project(points)
    x, y = pixels.unbind(dim=-1)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return inside & (depth >= bound[0]) & (depth <= bound[1])
