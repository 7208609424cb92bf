"""Which photos show the same things. For choosing some of many photos."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera


def seen_by(cameras: Sequence[Camera], points: Float[Tensor, "P 3"]) -> Bool[Tensor, "V P"]:
    """Which points lie in the pictures of which of V cameras."""
    rows = []
    for camera in cameras:
        pixels, z = camera.project(points)
        rows.append((z > 0) & camera.shows(pixels))
    return torch.stack(rows)


def covering(seen: Bool[Tensor, "V P"], count: int) -> list[int]:
    """`count` photos, sorted, that show every point as often as can be, and all points about equally often.

    One after another: the photo whose points are seen least by those chosen before.
    """
    shows, times = seen.float(), torch.zeros(seen.shape[1])
    free = torch.ones(len(seen), dtype=torch.bool)
    for _ in range(min(count, len(seen))):
        gain = shows @ (1 / (1 + times).square())
        best = int(torch.where(free, gain, -1).argmax())
        free[best] = False
        times += shows[best]
    return (~free).nonzero()[:, 0].tolist()


def partners(seen: Bool[Tensor, "V P"], photo: int, count: int) -> list[int]:
    """Up to `count` other photos that share most points with a photo, the most first."""
    shared = seen.float() @ seen[photo].float()
    shared[photo] = -1
    return shared.topk(min(count, len(seen) - 1)).indices.tolist()
