"""Photos of one place at several focus distances must agree: stacked, they show everything sharp.

Each pixel is taken from the photo that is focused nearest to it. In simulated brackets the stack is the
sharp picture to 76 dB, but only to 27 dB within 10 px of where one thing hides another: there, light of
blurred things comes in. The identity needs no truth, so it judges methods on real brackets, and trains
them.

Its source is DiffCamera (arXiv 2509.26599, 2025), whose version has no mask.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

JUMP = 1.0  # px of CoC between neighbouring pixels: more is the edge of a thing that hides another
AWAY = 10  # px from such edges
IN_FOCUS = 1.0  # px of CoC: what is blurred less counts as sharp


class StackingResidual(NamedTuple):
    """How far pictures are from the stack of a bracket.

    Args:
        difference: of each picture from the stack, linear light, signed.
        counts: where the identity holds; elsewhere `difference` means nothing.
    """

    difference: Float[Tensor, "N 3 H W"]
    counts: Bool[Tensor, "H W"]

    def mean(self) -> Float[Tensor, ""]:
        """Mean absolute difference where it counts, linear light; 0 where it counts nowhere."""
        weight = self.counts.to(self.difference)
        pictures, channels = self.difference.shape[:2]
        return (self.difference.abs() * weight).sum() / (weight.sum() * pictures * channels).clamp_min(1)


def stacking_residual(
    pictures: Float[Tensor, "N 3 H W"], photos: Float[Tensor, "S 3 H W"], coc: Float[Tensor, "S H W"]
) -> StackingResidual:
    """Differences between pictures that claim to be sharp and the stack of a bracket.

    Args:
        pictures: linear light; each claims to show everything sharp: the photos deblurred one by one, or the
            stack (`stack_by_focus`) of pictures that somebody refocused.
        photos: linear light, of the same view, at S focus distances.
        coc: signed diameters of the photos' circles of confusion, px.
    """
    counts = away_from_occlusions(coc) & (coc.abs().amin(0) <= IN_FOCUS)
    return StackingResidual(pictures - stack_by_focus(photos, coc), counts)


def stack_by_focus(pictures: Float[Tensor, "S 3 H W"], coc: Float[Tensor, "S H W"]) -> Float[Tensor, "3 H W"]:
    """Each pixel from the picture with the smallest circle of confusion there."""
    nearest = coc.abs().argmin(0).expand(1, 3, -1, -1)
    return pictures.gather(0, nearest)[0]


def away_from_occlusions(coc: Float[Tensor, "S H W"]) -> Bool[Tensor, "H W"]:
    """More than `AWAY` px, along rows, columns and diagonals, from where the CoC of any photo jumps."""
    down, across = coc.diff(dim=1).abs() > JUMP, coc.diff(dim=2).abs() > JUMP
    jumps = torch.zeros_like(coc)
    for edge, one, other in (
        (down, (slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        (across, (slice(None), slice(None), slice(1, None)), (slice(None), slice(None), slice(None, -1))),
    ):
        jumps[one] += edge
        jumps[other] += edge
    near = F.max_pool2d(jumps.amax(0)[None], (2 * AWAY + 1, 1), 1, (AWAY, 0))
    near = F.max_pool2d(near, (1, 2 * AWAY + 1), 1, (0, AWAY))[0]
    return near == 0
