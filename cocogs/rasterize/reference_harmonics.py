"""The colours of `reference.py`: spherical harmonics by the direction from which a splat is seen."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.rasterize.constants import SH_C0


def sh_basis(degree: int, directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N {(degree+1)**2}"]:
    """Real spherical harmonics at unit directions, in 3DGS's order and signs.

    Factors are square roots of rationals over pi, written out as in Sloan, *Stupid Spherical Harmonics
    Tricks*, 2008.
    """
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        c1 = math.sqrt(3 / (4 * math.pi))
        basis += [-c1 * y, c1 * z, -c1 * x]
    if degree >= 2:
        c2 = math.sqrt(15 / (4 * math.pi))
        basis += [
            c2 * x * y,
            -c2 * y * z,
            math.sqrt(5 / (16 * math.pi)) * (2 * z * z - x * x - y * y),
            -c2 * x * z,
            c2 / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        c30 = math.sqrt(7 / (16 * math.pi))
        c31 = math.sqrt(21 / (32 * math.pi))
        c32 = math.sqrt(105 / (4 * math.pi))
        c33 = math.sqrt(35 / (32 * math.pi))
        basis += [
            -c33 * y * (3 * x * x - y * y),
            c32 * x * y * z,
            -c31 * y * (4 * z * z - x * x - y * y),
            c30 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c31 * x * (4 * z * z - x * x - y * y),
            c32 / 2 * z * (x * x - y * y),
            -c33 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, -1)


def eval_sh(
    degree: int,
    directions: Float[Tensor, "N 3"],
    sh0: Float[Tensor, "N 1 3"],
    shN: Float[Tensor, "N 15 3"],
) -> Float[Tensor, "N 3"]:
    """Colours >= 0 seen along directions of any positive length.

    `sh0` and `shN` hold the coefficients; those above `degree` are not used.
    """
    basis = sh_basis(degree, directions / directions.norm(dim=-1, keepdim=True))
    coefficients = torch.cat([sh0, shN], dim=1)[:, : basis.shape[1]]
    return ((basis[:, :, None] * coefficients).sum(1) + 0.5).relu()
