"""The loss made of L1 and SSIM, means inside masks, PSNR."""

import pytest
import torch
from torch import Tensor

from cocogs.ssim import ssim_map
from cocogs.train.losses import focus_weight, masked_mean, photometric_loss, picture_psnr, psnr


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


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (3, 4, 6), (2, 3, 4, 6)])
def test_masked_mean_is_the_mean_of_the_pixels_inside(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 6)
    mask[1:3, 2:] = 1
    torch.testing.assert_close(masked_mean(values, mask), values[..., 1:3, 2:].mean())
    torch.testing.assert_close(masked_mean(values, torch.ones(4, 6)), values.mean())
    assert masked_mean(values, None) == values.mean()


def test_masked_mean_weighs_by_a_mask_of_shares() -> None:
    values, mask = torch.tensor([[1.0, 5.0]]), torch.tensor([[0.03, 0.01]])
    assert float(masked_mean(values, mask)) == pytest.approx(2)


def test_masked_mean_of_nothing_is_nothing() -> None:
    assert float(masked_mean(torch.ones(3, 4, 6), torch.zeros(4, 6))) == 0


def test_psnr_of_pictures() -> None:
    grey, mask = torch.full((3, 8, 8), 0.5), torch.zeros(8, 8)
    mask[:4] = 1
    other = grey + 0.1 * mask
    assert picture_psnr(other, grey, mask) == pytest.approx(20, abs=1e-4)
    assert picture_psnr(other, grey) == pytest.approx(
        20 + 10 * torch.log10(torch.tensor(2.0)).item(), abs=1e-4
    )
    assert picture_psnr(grey + 9, torch.ones(3, 8, 8)) == 100  # clamped
    assert psnr(0.01) == pytest.approx(20) and psnr(0) == 100


@pytest.mark.parametrize("in_focus", [True, False])
def test_a_mask_does_not_change_what_a_photo_weighs(in_focus: bool) -> None:
    """Whether a masked object or its surroundings are in focus: inside, the mean weight is 1."""
    mask = torch.zeros(20, 30)
    mask[5:10, 5:10] = 1
    coc = torch.where((mask > 0) == in_focus, 0.1, 20.0)
    weight = focus_weight(coc, mask, 3.0)
    assert float((weight * mask).sum() / mask.sum()) == pytest.approx(1)
    assert focus_weight(coc, torch.zeros_like(mask), 3.0).isfinite().all()
    assert float(focus_weight(coc, None, 3.0).mean()) == pytest.approx(1)
