"""Structural similarity of two pictures, with its gradient: `ssim_map`.

Two torch ops over the native modules, `cocogs::ssim` and `cocogs::ssim_backward`; the tensors' device
chooses CPU or GPU. `reference.py` is the specification, in plain torch.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.rasterize import native


@torch.library.custom_op("cocogs::ssim", mutates_args=())
def ssim_op(image: Tensor, photo: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor]:
    """The map (C, H, W), and what its backward pass needs: the slopes (3, C, H, W), gradients of the map by
    the averages over each pixel's window; empty if there will be none."""
    values, slopes = _empty_results(image, photo, with_slopes)
    native.passes_on(image.device).ssim(image, photo, values, slopes)
    return values, slopes


@ssim_op.register_fake
def _empty_results(image: Tensor, photo: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor]:
    slopes = image.new_empty(3, *image.shape) if with_slopes else image.new_empty(0)
    return torch.empty_like(image), slopes


@torch.library.custom_op("cocogs::ssim_backward", mutates_args=())
def ssim_backward_op(image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor) -> Tensor:
    """The gradient by the image."""
    v_image = _empty_gradient(image, photo, slopes, v_values)
    native.passes_on(image.device).ssim_backward(image, photo, slopes, v_values, v_image)
    return v_image


@ssim_backward_op.register_fake
def _empty_gradient(image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor) -> Tensor:
    return torch.empty_like(image)


def _setup_context(ctx, inputs, output):
    image, photo, _ = inputs
    _, slopes = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(slopes)
    ctx.save_for_backward(image, photo, slopes)


def _backward(ctx, v_values, _):
    v_image = None
    if v_values is not None and ctx.needs_input_grad[0]:
        v_image = ssim_backward_op(*ctx.saved_tensors, v_values.contiguous())
    return v_image, None, None


ssim_op.register_autograd(_backward, setup_context=_setup_context)


def ssim_map(image: Float[Tensor, "C H W"], photo: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    """Structural similarity of each pixel, at most 1: Wang et al. 2004 with a Gaussian window of
    11 px (sigma 1.5), where all outside the pictures is 0, as in 3DGS.

    Args:
        image: for values in [0, 1]; has a gradient, but no second one.
        photo: of the same type, without gradient.

    Raises:
        ValueError: the pictures differ in shape, type or device, or the photo asks for a gradient; or, on
            a GPU, they are not float32.
        RuntimeError: the native module for the tensors' device is missing.
        NotImplementedError: the tensors are neither on a CPU nor on an NVIDIA GPU.
    """
    if image.ndim != 3 or image.shape != photo.shape:
        raise ValueError(
            f"SSIM compares two (C, H, W) pictures, not {tuple(image.shape)} with {tuple(photo.shape)}."
        )
    if image.dtype != photo.dtype or image.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"SSIM compares pictures of one float type, not {image.dtype} with {photo.dtype}.")
    if image.device != photo.device:
        raise ValueError(f"SSIM compares pictures on one device, not {image.device} with {photo.device}.")
    with_slopes = torch.is_grad_enabled() and image.requires_grad
    if torch.is_grad_enabled() and photo.requires_grad:
        raise ValueError("SSIM has a gradient by its first picture only.")
    return ssim_op(image.contiguous(), photo.contiguous(), with_slopes)[0]
