"""Where to look at the scene from: the photos' places, and places between them."""

from collections.abc import Sequence

import torch

from cocogs.camera import Camera
from cocogs.io.camera_path import PathFrame
from cocogs.render.paths import fill_in
from cocogs.spread import some_of


def places(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """About `count` cameras: the photos' own (some of them, where there are more), and those halfway between
    photos: first of every photo and its nearest neighbour, then of the second nearest, and so on."""
    if len(cameras) >= count:
        return some_of(cameras, count)
    positions = torch.stack([camera.position for camera in cameras]).double()
    nearest = torch.cdist(positions, positions).argsort(1)[:, 1:]
    pairs: dict[tuple[int, int], None] = {}
    for rank in range(nearest.shape[1]):
        for photo, other in enumerate(nearest[:, rank].tolist()):
            if len(cameras) + len(pairs) < count:
                pairs[min(photo, other), max(photo, other)] = None
    between = [fill_in([PathFrame(cameras[a]), PathFrame(cameras[b])], 3)[1].camera for a, b in pairs]
    return [*cameras, *between]
