"""How far two pictures are apart: the loss of the training, and PSNR."""

import math

from jaxtyping import Float
from torch import Tensor

from cocogs.srgb import CLIPPED
from cocogs.ssim import ssim_map


def photometric_loss(
    image: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"], ssim_weight: float
) -> Float[Tensor, "3 H W"]:
    """Per pixel: (1 - lambda) |image - photo| + lambda (1 - SSIM), where lambda is `ssim_weight`.

    D-SSIM is (1 - SSIM) / 2 by definition. 3DGS (Kerbl et al. 2023) leaves out the half, and so do we.
    """
    return (1 - ssim_weight) * (image - photo).abs() + ssim_weight * (1 - ssim_map(image, photo))


def clipped_as(image: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """The image, clipped where the photo is: what was brighter than the photo could show is no error."""
    return image.minimum(photo.masked_fill(photo < CLIPPED, math.inf))


def masked_mean(values: Float[Tensor, "*C H W"], mask: Float[Tensor, "H W"] | None) -> Float[Tensor, ""]:
    """Mean over channels and pixels, each pixel weighted by its mask; 0 where the mask is 0 everywhere.

    Args:
        mask: in [0, 1]; None counts all pixels alike.
    """
    if mask is None:
        return values.mean()
    channels = values.shape[:-2].numel()
    return (values * mask).sum() / (channels * mask.sum()).clamp_min(1e-10)


def focus_weight(
    coc: Float[Tensor, "H W"], mask: Float[Tensor, "H W"] | None, sharp_coc: float
) -> Float[Tensor, "1 H W"]:
    """Weights of pixels in the loss, mean 1 within the mask: 1 / (1 + (coc / sharp_coc)^2), both in px.

    What is in focus tells the detail, the rest mostly the errors of any lens model.
    """
    weight = 1 / (1 + (coc[None] / sharp_coc).square())
    return weight / masked_mean(weight, mask).clamp_min(1e-9)  # a mask may be black all over


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1], given their mean squared error; at most 100."""
    return -10 * math.log10(max(mse, 1e-10))


def picture_psnr(
    render: Float[Tensor, "3 H W"], photo: Float[Tensor, "3 H W"], mask: Float[Tensor, "H W"] | None = None
) -> float:
    """PSNR in dB of a render, clamped to [0, 1], against a photo in [0, 1], inside the mask."""
    return psnr(float(masked_mean((render.clamp(0, 1) - photo).square().mean(0), mask)))
