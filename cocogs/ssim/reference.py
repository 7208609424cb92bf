"""The specification of SSIM in plain torch, for any float type: slow, readable, differentiable twice.

Its native twin is cuda_ext/math/ssim.h.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for a data range of 1


def gaussian_window(like: Tensor) -> Float[Tensor, "11"]:
    x = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    window = torch.exp(-x.square() / (2 * SIGMA**2))
    return window / window.sum()


def window_mean(images: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Gaussian-weighted local mean, zero-padded like 3DGS's SSIM."""
    window, half, count = gaussian_window(images), WINDOW // 2, len(images)
    # One depthwise pass per axis: torch on CPU takes 8 times longer with the B images as a batch.
    rows = window.view(1, 1, 1, -1).expand(count, -1, -1, -1)
    columns = window.view(1, 1, -1, 1).expand(count, -1, -1, -1)
    images = F.conv2d(images[None], rows, padding=(0, half), groups=count)
    return F.conv2d(images, columns, padding=(half, 0), groups=count)[0]


def ssim_map(image: Float[Tensor, "C H W"], photo: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    """As `cocogs.ssim.ssim_map`."""
    mean_a, aa, ab = window_mean(torch.cat([image, image * image, image * photo])).chunk(3)
    mean_b, bb = window_mean(torch.cat([photo, photo * photo])).chunk(2)  # apart: needs no backward pass
    variance_a, variance_b = aa - mean_a.square(), bb - mean_b.square()
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return luminance * (2 * covariance + C2) / (variance_a + variance_b + C2)
