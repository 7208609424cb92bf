"""The similarity between two sets of points: how a run's frame and unit lie in the true ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.errors import InputError


@dataclass(frozen=True)
class Similarity:
    """Maps x to scale * rotation @ x + shift.

    Args:
        error: root mean square distance that was left between the points and their targets.
    """

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]
    error: float

    def apply(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
        return self.scale * points @ self.rotation.T.to(points) + self.shift.to(points)


def align(points: Float[Tensor, "V 3"], targets: Float[Tensor, "V 3"]) -> Similarity:
    """The similarity, without mirroring, that brings points closest to their targets (Umeyama 1991), float64.

    Of points on one line only the scale is determined: the rotation about the line is one of many.

    Raises:
        InputError: there are fewer than two different points or targets, so that no scale is known.
    """
    points, targets = points.double(), targets.double()
    a, b = points - points.mean(0), targets - targets.mean(0)
    for centred, whole in ((a, points), (b, targets)):
        if len(centred) < 2 or float(centred.norm()) <= 1e-9 * float(whole.norm()):
            raise InputError("All cameras stand in one place, so their distances give no scale.")
    U, S, Vt = torch.linalg.svd(b.T @ a)
    signs = torch.ones_like(S)
    signs[2] = torch.sign(torch.linalg.det(U @ Vt))  # a rotation, not a mirror
    rotation = (U * signs) @ Vt
    scale = float((S * signs).sum() / a.square().sum())
    left = b.square().sum() - scale * (S * signs).sum()
    shift = targets.mean(0) - scale * rotation @ points.mean(0)
    return Similarity(scale, rotation, shift, float((left.clamp_min(0) / len(a)).sqrt()))
