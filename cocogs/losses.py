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
