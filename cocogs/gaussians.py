"""The base Gaussians: raw parameters, their activations, and how they start from SfM points."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cocogs.rasterize.constants import SH_C0

Activated = tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"], Float[Tensor, "N 3"], Float[Tensor, " N"]]
"""means, quats (wxyz of any positive length), scales > 0, opacities in (0, 1)."""


class Gaussians(nn.Module):
    """N Gaussians with colours in spherical harmonics up to degree 3.

    Raw parameters, as the standard 3DGS .ply stores them: `means` in scene units, `quats` wxyz of any
    length, `scales` logarithms of standard deviations in scene units, `opacities` logits, `sh0`, `shN`.

    `antialiased` tells how they are to be drawn (see `cocogs.rasterize.rasterize`): as they were trained. It
    is part of the state.
    """

    names = ("means", "quats", "scales", "opacities", "sh0", "shN")

    def __init__(self, antialiased: bool = False, /, **raw: Tensor) -> None:
        super().__init__()
        self.antialiased = antialiased
        for name in self.names:
            self.register_parameter(name, nn.Parameter(raw[name].detach().clone().contiguous()))

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    scales: Float[Tensor, "N 3"]
    opacities: Float[Tensor, " N"]
    sh0: Float[Tensor, "N 1 3"]
    shN: Float[Tensor, "N 15 3"]

    def __len__(self) -> int:
        return len(self.means)

    @classmethod
    def from_points(
        cls, points: Float[Tensor, "N 3"], colors: Float[Tensor, "N 3"], antialiased: bool = False
    ) -> "Gaussians":
        """One round Gaussian per point, as wide as the distance to its neighbours (3DGS's start).

        Args:
            points: scene units.
            colors: in [0, 1].

        Orientations, which matter once scales differ, come from torch's global generator.
        """
        points, colors, count = points.float(), colors.float(), len(points)
        spacing = neighbour_distance(points)
        return cls(
            antialiased,
            means=points,
            quats=nn.functional.normalize(torch.randn(count, 4), dim=-1),
            scales=spacing.log()[:, None].repeat(1, 3),
            opacities=torch.full((count,), math.log(0.1 / 0.9)),
            sh0=((colors - 0.5) / SH_C0)[:, None],
            shN=torch.zeros(count, 15, 3),
        )

    def get_extra_state(self) -> dict[str, bool]:
        return {"antialiased": self.antialiased}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        self.antialiased = state["antialiased"]

    def activated(self) -> Activated:
        return self.means, self.quats, self.scales.exp(), self.opacities.sigmoid()


def cross_section(scales: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Area that a splat covers from its broadest side, up to a factor: the product of the two larger of its
    standard deviations."""
    return scales.prod(-1) / scales.amin(-1).clamp_min(1e-20)


def keep_largest(values: Float[Tensor, " N"], count: int) -> Bool[Tensor, " N"]:
    """Mask of the `count` largest values; all where there are fewer."""
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[values.topk(min(count, len(values))).indices] = True
    return mask


def neighbour_distance(points: Float[Tensor, "N 3"], neighbours: int = 3) -> Float[Tensor, " N"]:
    """Root mean squared distance of each point to its nearest others; never 0."""
    from scipy.spatial import KDTree  # .3 s to load

    if len(points) <= neighbours:
        return torch.full((len(points),), 1e-2)
    distances, _ = KDTree(points.numpy()).query(points.numpy(), k=neighbours + 1)
    others = torch.from_numpy(distances[:, 1:])  # the nearest is the point itself
    distance = others.square().mean(1).sqrt().to(points)
    typical = distance.median().clamp_min(1e-6)
    # A lone outlier would cover the scene; coincident points would vanish.
    return distance.clamp(typical * 1e-2, typical * 10)
