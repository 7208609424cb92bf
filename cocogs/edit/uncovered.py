"""What an edit uncovers: places behind an object that other photos saw, and places that no photo saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.floaters import small
from cocogs.edit.subject import Subject
from cocogs.gaussians import Gaussians
from cocogs.render.refocusing import SOLID, sharp_depth
from cocogs.render.shares import shown_share

AT_SURFACE = 0.03  # of the depth: what lies so close to what a photo shows is seen by it
SPECK = 1  # px; half the width of what counts as an error of the depth


@dataclass(frozen=True)
class Uncovered:
    """What an edit took the cover from.

    Args:
        before: the scene before the edit.
        after: and after it.
        taken: the splats of `before` that are gone from where they were.
        cameras: of the photos.
    """

    before: Gaussians
    after: Gaussians
    taken: Bool[Tensor, " N"]
    cameras: Sequence[Camera]

    @cached_property
    def _depths(self) -> list[tuple[Camera, Float[Tensor, "H W"]]]:
        """What the photos see, before the edit."""
        return [(camera, sharp_depth(self.before, camera)) for camera in small(list(self.cameras))]

    def bared(self, camera: Camera) -> Bool[Tensor, "H W"]:
        """Pixels that show what was covered before."""
        was = shown_share(self.before, camera, self.taken) > SOLID
        return was & ~self._still_covered(camera)

    def _still_covered(self, camera: Camera) -> Bool[Tensor, "H W"]:
        """Pixels in which something else now lies as near as what was taken away."""
        only = self.before[self.taken]
        return sharp_depth(self.after, camera) <= sharp_depth(only, camera) * (1 - AT_SURFACE)

    def unseen(self, camera: Camera) -> Bool[Tensor, "H W"]:
        """Of those pixels, the ones whose content no photo shows: a guess of the training, or a hole."""
        from scipy.ndimage import binary_opening  # .3 s to load

        bared, depth = self.bared(camera), sharp_depth(self.after, camera)
        unseen = bared.clone()
        rows, columns = (bared & depth.isfinite()).nonzero(as_tuple=True)
        points = camera.unproject(torch.stack([columns, rows], 1) + 0.5, depth[rows, columns])
        unseen[rows, columns] = ~seen_in(points, self._depths)
        return torch.from_numpy(np.asarray(binary_opening(unseen.numpy(), iterations=SPECK)))


def seen_in(
    points: Float[Tensor, "P 3"], depths: Sequence[tuple[Camera, Float[Tensor, "H W"]]]
) -> Bool[Tensor, " P"]:
    """Whether points lie on a surface that one of the cameras sees.

    Args:
        depths: cameras, and the depth of what each pixel shows.
    """
    seen = torch.zeros(len(points), dtype=torch.bool)
    for camera, depth in depths:
        surface, z, shown = camera.looked_up(points, depth)
        seen |= shown & surface.isfinite() & ((z - surface).abs() <= AT_SURFACE * surface)
    return seen


def uncovered(before: Subject, after: Subject, taken: Bool[Tensor, " N"]) -> Uncovered | None:
    """What an edit of a scene took the cover from; None where no photos are known or nothing was taken."""
    if not before.looks or not taken.any():
        return None
    return Uncovered(before.gaussians, after.gaussians, taken, before.cameras)
