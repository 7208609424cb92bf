"""The affine map of colour that brings a render closest to a photo."""

import torch
from jaxtyping import Float
from torch import Tensor

PULL = 1e-6
"""Weight of the identity in the fit, as a squared difference in colour. It decides only what the picture
leaves open: a picture of one colour says nothing about how other colours change."""


def match_affine_color(
    render: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"], mask: Float[Tensor, "H W"] | None = None
) -> Float[Tensor, "3 H W"]:
    """The render after the affine map of its colours that is closest to the photo, clamped to [0, 1].

    Photos have exposures and white balances of their own; those of a photo that training never saw are
    unknown. The map has 12 numbers, a 3x3 matrix and an offset, and is the least-squares solution over all
    pixels that count. It maps sRGB-encoded values, not light, and does not leave saturated pixels out.
    gsplat's `cc_psnr` and the evaluation of mip-NeRF 360 (Barron et al. 2022) correct colours too, but fit
    other maps (quadratic) or leave saturated pixels out: compare only figures of the same map.

    Args:
        render, photo: sRGB in [0, 1].
        mask: pixels above 0.5 count; None: all count. The map is applied to all pixels.
    """
    counts = torch.ones_like(render[0], dtype=torch.bool) if mask is None else mask > 0.5
    colors, wanted = (picture[:, counts].double() for picture in (render, photo))
    inputs = torch.cat([colors, torch.ones_like(colors[:1])])
    identity = torch.eye(3, 4, dtype=torch.float64, device=render.device)
    pull = PULL * max(1, colors.shape[1])
    # Normal equations of |A inputs - wanted|^2 + pull |A - identity|^2, solved for the 3x4 matrix A.
    normal = inputs @ inputs.T + pull * torch.eye(4, dtype=torch.float64, device=render.device)
    matrix = torch.linalg.solve(normal, inputs @ wanted.T + pull * identity.T).T
    mapped = torch.einsum("ij,jhw->ihw", matrix[:, :3].to(render), render)
    return (mapped + matrix[:, 3, None, None].to(render)).clamp(0, 1)
