"""The loss made of L1 and SSIM."""

import pytest
import torch
from torch import Tensor

from cocogs.ssim import ssim_map
from cocogs.train.losses import photometric_loss


def pictures(height: int = 20, width: int = 27, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A picture of noise and a disturbed copy, both in [0, 1]."""
    one, noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return one, 0.8 * one + 0.2 * noise


@pytest.mark.parametrize("ssim_weight", [0.0, 0.3, 1.0])
def test_zero_for_equal_pictures_only(ssim_weight: float) -> None:
    one, other = pictures()
    same, different = photometric_loss(one, one, ssim_weight), photometric_loss(one, other, ssim_weight)
    assert same.shape == one.shape
    torch.testing.assert_close(same, torch.zeros_like(one))
    assert different.mean() > 0.02


def test_mixes_l1_and_ssim() -> None:
    one, other = pictures()
    l1, dssim = (one - other).abs(), 1 - ssim_map(one, other)
    torch.testing.assert_close(photometric_loss(one, other, 0.0), l1)
    torch.testing.assert_close(photometric_loss(one, other, 1.0), dssim)
    torch.testing.assert_close(photometric_loss(one, other, 0.25), 0.75 * l1 + 0.25 * dssim)


def test_gradient() -> None:
    _, photo = pictures(5, 6, torch.float64)
    # Away from the kink of the absolute value.
    offset = torch.where(torch.arange(photo.numel()).view(photo.shape) % 3 == 0, 0.1, -0.07)
    image = (photo + offset).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: photometric_loss(x, photo, 0.3), (image,))
