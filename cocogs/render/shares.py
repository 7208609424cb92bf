"""How much of what pixels show comes from each splat."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.gaussians import Gaussians, black_and_white
from cocogs.rasterize import rasterize
from cocogs.rasterize.constants import SH_C0


def light_shares(
    gaussians: Gaussians, camera: Camera, pictures: Float[Tensor, "3 H W"]
) -> Float[Tensor, "3 N"]:
    """For each of three pictures, the sum over pixels of its value times the share of every splat there.

    The share of a splat in a pixel is its alpha times the transmittance of what lies in front of it; shares
    add up to the render's alpha. It is the derivative of the pixel by the brightness of the splat.
    """
    with torch.enable_grad():
        brightness = torch.ones_like(gaussians.sh0).requires_grad_()
        means, quats, scales, opacities = (part.detach() for part in gaussians.activated())
        splats = means, quats, scales, opacities, brightness, torch.zeros_like(gaussians.shN)
        render = rasterize(*splats, camera, sh_degree=0, antialiased=gaussians.antialiased)
        (slope,) = torch.autograd.grad(render.colors[0], brightness, pictures.to(brightness))
    return slope[:, 0].T / SH_C0


def inside_and_total(
    gaussians: Gaussians, masks: Sequence[tuple[Camera, Float[Tensor, "_ _"]]]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The light of every splat that falls inside masks, and all of it, in px, added up over pictures.

    Args:
        masks: of each picture its camera, and how much of each pixel is inside, in [0, 1].
    """
    inside, total = torch.zeros(2, len(gaussians))
    for camera, mask in masks:
        pictures = torch.stack([mask, torch.ones_like(mask), torch.zeros_like(mask)])
        shares = light_shares(gaussians, camera, pictures).cpu()
        inside, total = inside + shares[0], total + shares[1]
    return inside, total


@torch.no_grad()
def shown_share(gaussians: Gaussians, camera: Camera, some: Bool[Tensor, " N"]) -> Float[Tensor, "H W"]:
    """How much of each pixel some of the splats show, in [0, 1]: what lies in front of them hides them."""
    colors = black_and_white(some.to(gaussians.means.device))
    render = rasterize(
        *gaussians.activated(), colors, torch.zeros_like(gaussians.shN), camera,
        sh_degree=0, antialiased=gaussians.antialiased,
    )  # fmt: skip
    return render.colors[0, 0].clamp(0, 1).cpu()
