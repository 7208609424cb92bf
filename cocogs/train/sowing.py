"""Gaussians sown behind what a photo shows.

Where photos are blurred, wide Gaussians before a surface explain them as well as fine ones on it. Training
then stays with the wide ones, and nothing grows behind them. Small faint Gaussians that are put there at
random get it out: those that fit grow, the others fade. (Random seeds on the far side: arXiv 2607.17965.)
They take no place from others: docs/lab/splats.md, "Sown behind what photos show".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.gaussians import FAINT, Gaussians, sh0_of
from cocogs.optics.model import DefocusModel

FARTHEST = 2.0  # times the depth that is shown there


@torch.no_grad()
def sown_behind(
    model: DefocusModel,
    camera: Camera,
    photo: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | None,
    count: int,
) -> Gaussians:
    """At most `count` Gaussians a pixel wide at random pixels of a photo, coloured as it is there, between
    the depth that the sharp view shows and `FARTHEST` times that. None where the mask is 0 or nothing is
    shown.

    The places come from torch's global generator.

    Args:
        photo: in [0, 1].
    """
    depths = model.sharp(camera, 0, with_depth=True).depths
    assert depths is not None
    places = torch.rand(3, count)
    x, y = (places[0] * camera.width).long(), (places[1] * camera.height).long()
    shown = depths[0][y, x]
    there = (shown > 0) & (torch.ones_like(shown) if mask is None else mask[y, x]).bool()
    pixels = torch.stack([x, y], 1).to(shown)[there] + 0.5
    far = shown[there] * (1 + (FARTHEST - 1) * places[2].to(shown)[there])
    return Gaussians(
        model.gaussians.antialiased,
        means=camera.unproject(pixels, far),
        quats=pixels.new_tensor([1.0, 0, 0, 0]).expand(len(far), 4),
        scales=(far / camera.fx).log()[:, None].expand(-1, 3),
        opacities=far.new_full((len(far),), FAINT),
        sh0=sh0_of(photo[:, y, x].T[there]),
        shN=far.new_zeros(len(far), 15, 3),
    )
