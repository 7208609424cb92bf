"""L1 and D-SSIM between pictures; pure functions."""

from jaxtyping import Float
from torch import Tensor

from cocogs.ssim import ssim_map


def photometric_loss(
    image: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"], ssim_weight: float
) -> Float[Tensor, "3 H W"]:
    """Unreduced: (1 - lambda) |image - photo| + lambda (1 - SSIM).

    D-SSIM is (1 - SSIM) / 2 by definition; 3DGS leaves out the half, and so do we.
    """
    return (1 - ssim_weight) * (image - photo).abs() + ssim_weight * (1 - ssim_map(image, photo))


def masked_mean(per_pixel: Float[Tensor, "C H W"], mask: Float[Tensor, "H W"] | None) -> Float[Tensor, ""]:
    """Over all pixels, or over those whose mask is 1."""
    if mask is None:
        return per_pixel.mean()
    return (per_pixel * mask).sum() / (len(per_pixel) * mask.sum()).clamp_min(1)
