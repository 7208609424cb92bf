"""Structural similarity of two pictures, with its gradient: `ssim_map`.

- `native.py`: the fast one (C++ and CUDA, cuda_ext/), as torch ops.
- `reference.py`: the specification, in plain torch.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.ssim.native import ssim_op


def ssim_map(image: Float[Tensor, "C H W"], photo: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    """Structural similarity of each pixel, at most 1: Wang et al. 2004 with a Gaussian window of
    11 px (sigma 1.5). Everything outside the pictures counts as 0, as in 3DGS.

    Args:
        image: for values in [0, 1]; has a gradient, but no second one.
        photo: of the same type, without gradient.

    Raises:
        ValueError: the pictures differ in shape, type or device, or the photo asks for a gradient; or, on
            a GPU, they are not float32.
        RuntimeError: the native module for the tensors' device is missing.
        NotImplementedError: the tensors are neither on a CPU nor on an NVIDIA GPU.
    """
    with_slopes = torch.is_grad_enabled() and image.requires_grad
    if torch.is_grad_enabled() and photo.requires_grad:
        raise ValueError("SSIM has a gradient by its first picture only.")
    return ssim_op(image.contiguous(), photo.contiguous(), with_slopes)[0]
