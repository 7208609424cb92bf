"""SSIM against scikit-image, and the loss made of it."""

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from cocogs.losses import SIGMA, WINDOW, gaussian_window, photometric_loss, ssim_map, window_mean

BORDER = WINDOW // 2


def pictures(height: int = 40, width: int = 53, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A noisy picture with large shapes in it, and a disturbed copy; both in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 9, width), indexing="ij")
    shapes = torch.stack([0.5 + 0.3 * torch.sin(x + k) * torch.cos(y - k) for k in range(3)])
    one = (shapes + 0.1 * torch.rand(shapes.shape, generator=generator)).clamp(0, 1)
    other = (0.8 * one + 0.2 * torch.rand(shapes.shape, generator=generator)).clamp(0, 1)
    return one.to(dtype), other.to(dtype)


def test_ssim_is_scikit_image_s_gaussian_variant_in_the_interior() -> None:
    one, other = pictures()
    result = structural_similarity(
        one.double().numpy(), other.double().numpy(), channel_axis=0, data_range=1.0, full=True,
        gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False,
    )  # fmt: skip
    expected = torch.from_numpy(result[1])
    inside = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    torch.testing.assert_close(ssim_map(one, other)[inside].double(), expected[inside], atol=1e-4, rtol=0)


def test_window_is_a_normalised_gaussian() -> None:
    window = gaussian_window(torch.zeros(1, dtype=torch.float64))
    assert window.shape == (WINDOW,) and float(window.sum()) == pytest.approx(1)
    assert float(window[BORDER + 1] / window[BORDER]) == pytest.approx(2.718281828 ** (-1 / (2 * SIGMA**2)))


def test_window_mean_treats_every_image_alone() -> None:
    one, other = pictures()
    together = window_mean(torch.cat([one, other]))
    torch.testing.assert_close(together, torch.cat([window_mean(one), window_mean(other)]))


def test_ssim_of_a_picture_with_itself_is_one() -> None:
    one, _ = pictures()
    for image in (one, torch.zeros(3, 12, 15), torch.ones(3, 4, 3)):  # black, and smaller than the window
        torch.testing.assert_close(ssim_map(image, image), torch.ones_like(image), atol=1e-4, rtol=0)


def test_ssim_is_symmetric_and_under_one() -> None:
    one, other = pictures()
    torch.testing.assert_close(ssim_map(one, other), ssim_map(other, one), atol=1e-4, rtol=0)
    assert ssim_map(one, other).mean() < 0.9 and ssim_map(one, other).max() <= 1 + 1e-4


@pytest.mark.parametrize("ssim_weight", [0.0, 0.3, 1.0])
def test_loss_is_zero_for_equal_pictures_only(ssim_weight: float) -> None:
    one, other = pictures()
    same, different = photometric_loss(one, one, ssim_weight), photometric_loss(one, other, ssim_weight)
    assert same.shape == one.shape
    torch.testing.assert_close(same, torch.zeros_like(one), atol=1e-4, rtol=0)
    assert different.mean() > 0.02


def test_loss_mixes_l1_and_ssim() -> None:
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
