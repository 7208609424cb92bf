"""SSIM: the specification against scikit-image, and the native ops against the specification."""

from collections.abc import Iterator

import pytest
import torch
from conftest import BACKENDS, Backend, parameters
from skimage.metrics import structural_similarity
from torch import Tensor

from cocogs.compiled import cpu_module
from cocogs.ssim import reference, ssim_map
from cocogs.ssim.native import ssim_backward_op, ssim_op

MODULE = cpu_module()
LEVELS = MODULE.levels()
BORDER = reference.WINDOW // 2
# Smaller than the window, as large, of whole tiles, of parts of tiles.
SIZES = [(1, 1), (5, 7), (11, 11), (48, 64), (67, 101), (130, 70)]

every_kernel = pytest.mark.parametrize(
    "backend", parameters([backend for backend in BACKENDS if backend.name == "native"]), indirect=True
)
on_host = pytest.mark.parametrize(
    "backend", parameters([Backend("native", torch.float32, "host")]), indirect=True
)


@pytest.fixture
def default_level() -> Iterator[None]:
    before = MODULE.level()
    yield
    MODULE.set_level(before)


def pictures(height: int = 40, width: int = 53, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A noisy picture with large shapes in it, and a disturbed copy; both in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 9, width), indexing="ij")
    shapes = torch.stack([0.5 + 0.3 * torch.sin(x + k) * torch.cos(y - k) for k in range(3)])
    one = (shapes + 0.1 * torch.rand(shapes.shape, generator=generator)).clamp(0, 1)
    other = (0.8 * one + 0.2 * torch.rand(shapes.shape, generator=generator)).clamp(0, 1)
    return one.to(dtype), other.to(dtype)


def with_gradient(function, image: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
    """The map of two pictures, and the image's gradient for fixed weights."""
    leaf = image.clone().requires_grad_()
    values = function(leaf, photo)
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    (values * weights.to(values)).sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


def distance(found: Tensor, expected: Tensor) -> float:
    """|difference| / |expected|, in double."""
    return float((found.double().cpu() - expected).norm() / expected.norm())


# The specification


def test_specification_is_scikit_image_s_gaussian_variant_in_the_interior() -> None:
    one, other = pictures()
    result = structural_similarity(
        one.numpy(), other.numpy(), channel_axis=0, data_range=1.0, full=True,
        gaussian_weights=True, sigma=reference.SIGMA, use_sample_covariance=False,
    )  # fmt: skip
    expected = torch.from_numpy(result[1])
    inside = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    torch.testing.assert_close(reference.ssim_map(one, other)[inside], expected[inside], atol=1e-12, rtol=0)


def test_window_is_a_normalised_gaussian() -> None:
    window = reference.gaussian_window(torch.zeros(1, dtype=torch.float64))
    assert window.shape == (reference.WINDOW,) and float(window.sum()) == pytest.approx(1)
    fall = 2.718281828 ** (-1 / (2 * reference.SIGMA**2))
    assert float(window[BORDER + 1] / window[BORDER]) == pytest.approx(fall)


def test_window_mean_treats_every_image_alone() -> None:
    one, other = pictures()
    together = reference.window_mean(torch.cat([one, other]))
    torch.testing.assert_close(
        together, torch.cat([reference.window_mean(one), reference.window_mean(other)])
    )


# The native ops


@every_kernel
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_native_matches_the_specification(backend: Backend, height: int, width: int) -> None:
    image, photo = (picture.to(backend.dtype) for picture in pictures(height, width))
    expected, v_expected = with_gradient(reference.ssim_map, image.double(), photo.double())
    found, v_found = with_gradient(ssim_map, image.to(backend.device), photo.to(backend.device))
    exact = backend.dtype == torch.float64
    torch.testing.assert_close(found.double().cpu(), expected, atol=1e-11 if exact else 1e-4, rtol=0)
    assert distance(v_found, v_expected) < (1e-10 if exact else 1e-4)


@every_kernel
def test_bright_and_even_pictures(backend: Backend) -> None:
    """Where most is cancelled: a variance far below the square of the mean."""
    one, other = (0.9 + 0.02 * picture.to(backend.dtype) for picture in pictures())
    expected, v_expected = with_gradient(reference.ssim_map, one.double(), other.double())
    found, v_found = with_gradient(ssim_map, one.to(backend.device), other.to(backend.device))
    error, usual_error = (
        float((values.double().cpu() - expected).abs().max())
        for values in (found, reference.ssim_map(one.float(), other.float()))
    )
    assert error <= usual_error and distance(v_found, v_expected) < 1e-3


@every_kernel
def test_a_picture_is_exactly_like_itself(backend: Backend) -> None:
    some = pictures(dtype=backend.dtype)[0]
    for image in (some, torch.zeros_like(some), torch.ones_like(some), torch.full_like(some, 1000)):
        values, gradient = with_gradient(ssim_map, image.to(backend.device), image.to(backend.device))
        assert (values == 1).all() and (gradient == 0).all()


@every_kernel
def test_brighter_than_white_stays_finite(backend: Backend) -> None:
    image, photo = pictures(dtype=backend.dtype)
    values, gradient = with_gradient(
        ssim_map, (1000 + image).to(backend.device), (1000 + photo).to(backend.device)
    )
    assert values.isfinite().all() and gradient.isfinite().all()


def test_symmetric_and_under_one() -> None:
    one, other = pictures()
    torch.testing.assert_close(ssim_map(one, other), ssim_map(other, one))
    assert ssim_map(one, other).mean() < 0.9 and ssim_map(one, other).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(6, 5), (12, 13)])
def test_gradient_in_double(height: int, width: int) -> None:
    image, photo = pictures(height, width)
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, photo), (image.requires_grad_(),))


@every_kernel
def test_layout_of_the_inputs_does_not_matter(backend: Backend) -> None:
    image, photo = (picture.to(backend.dtype).to(backend.device) for picture in pictures())
    apart = [picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) for picture in (image, photo)]
    assert not apart[0].is_contiguous()
    leaves = [picture.clone().requires_grad_() for picture in (image, apart[0])]
    ssim_map(leaves[0], photo).sum().backward()  # whose gradient is one number, expanded
    (ssim_map(leaves[1], apart[1]) * torch.ones_like(image)).sum().backward()
    assert leaves[0].grad is not None and leaves[1].grad is not None
    assert torch.equal(leaves[0].grad, leaves[1].grad)


def test_without_a_gradient_nothing_is_kept() -> None:
    image, photo = pictures()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        alone = ssim_map(image, photo)
        assert not kept and not alone.requires_grad
        with_one = ssim_map(image.requires_grad_(), photo)
    assert kept and torch.equal(alone, with_one)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_agree_and_threads_change_nothing(level: str, default_level: None) -> None:
    MODULE.set_level(level)
    image, photo = pictures(150, 203, torch.float32)
    expected, v_expected = with_gradient(reference.ssim_map, image.double(), photo.double())
    alone, v_alone = with_gradient(ssim_map, image, photo)
    torch.testing.assert_close(alone.double(), expected, atol=1e-4, rtol=0)
    assert distance(v_alone, v_expected) < 1e-4
    before = torch.get_num_threads()
    try:
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            values, gradient = with_gradient(ssim_map, image, photo)
            assert torch.equal(values, alone) and torch.equal(gradient, v_alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.thorough
def test_opcheck() -> None:
    image, photo = pictures(9, 12)
    torch.library.opcheck(ssim_op, (image, photo, False))
    torch.library.opcheck(ssim_op, (image.clone().requires_grad_(), photo, True))
    values, slopes = ssim_op(image, photo, True)
    torch.library.opcheck(ssim_backward_op, (image, photo, slopes, values))


@pytest.mark.usefixtures("unchecked")
def test_pictures_that_cannot_be_compared() -> None:
    image, photo = pictures(dtype=torch.float32)
    for wrong in (photo[:, 1:], photo[0], photo[None]):
        with pytest.raises(ValueError, match="photo must be"):
            ssim_map(image, wrong)
    with pytest.raises(ValueError, match=r"must be .* torch.float32 on cpu, not .* torch.float64 on cpu"):
        ssim_map(image, photo.double())
    with pytest.raises(ValueError, match="in a float type, not"):
        ssim_map(image.half(), photo.half())
    with pytest.raises(ValueError, match="first picture only"):
        ssim_map(image, photo.requires_grad_())


@on_host
def test_double_is_refused_on_a_gpu(backend: Backend) -> None:
    with pytest.raises(ValueError, match="float32"):
        ssim_map(*pictures())
