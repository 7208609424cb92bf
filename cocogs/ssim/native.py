"""SSIM (cuda_ext/) as torch ops with autograd: `cocogs::ssim` and `cocogs::ssim_backward`.

The device of the tensors chooses CPU or GPU. Both ops check all that the compiled modules rely on: whatever
tensors they get, they raise a ValueError rather than read beyond one.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from cocogs.compiled import cpu_module, cuda_module
from cocogs.plain_torch import first_derivatives, torch_op
from cocogs.threads import pass_threads

SLOPES = 3  # numbers per pixel that the backward pass needs


class CpuSsim:
    """SSIM in float32 and float64.

    Args:
        module: `cocogs.compiled.cpu_module()`.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def forward(self, **pictures: Tensor) -> None:
        """From `image` and `photo` (C, H, W) fills `values` (C, H, W) and, unless empty, `slopes`
        (3, C, H, W)."""
        self.module.ssim(**self._run(pictures["image"]), **_addresses(pictures))

    def backward(self, **pictures: Tensor) -> None:
        """From `image`, `photo`, `slopes` and `v_values` fills `v_image` (C, H, W)."""
        self.module.ssim_backward(**self._run(pictures["image"]), **_addresses(pictures))

    def _run(self, image: Tensor) -> dict[str, object]:
        is_double = image.dtype == torch.float64
        return {"is_double": is_double, "size": tuple(image.shape), "threads": pass_threads()}


class CudaSsim:
    """SSIM in float32. Makes the tensors' device the current one, because kernels start only there.

    Args:
        module: `cocogs.compiled.cuda_module()`; tests bring one that runs on a CPU.
        stream_of: address of the CUDA stream to work in, for a device.
    """

    def __init__(self, module: ModuleType, stream_of: Callable[[torch.device], int]) -> None:
        self.module, self.stream_of = module, stream_of

    def forward(self, **pictures: Tensor) -> None:
        """As `CpuSsim.forward`.

        Raises:
            ValueError: the pictures are not float32.
        """
        image = pictures["image"]
        with torch.cuda.device_of(image):
            self.module.ssim(**self._run(image), **_addresses(pictures))

    def backward(self, **pictures: Tensor) -> None:
        """As `CpuSsim.backward`. The same inputs give the same bits.

        Raises:
            ValueError: the pictures are not float32.
        """
        image = pictures["image"]
        with torch.cuda.device_of(image):
            self.module.ssim_backward(**self._run(image), **_addresses(pictures))

    def _run(self, image: Tensor) -> dict[str, object]:
        if image.dtype != torch.float32:
            raise ValueError(f"On a GPU the pictures must be float32, not {image.dtype}.")
        return {"size": tuple(image.shape), "stream": self.stream_of(image.device)}


def _addresses(pictures: dict[str, Tensor]) -> dict[str, int]:
    return {name: tensor.data_ptr() if tensor.numel() > 0 else 0 for name, tensor in pictures.items()}


def ssim_on(device: torch.device) -> CpuSsim | CudaSsim:
    """SSIM for tensors on a device.

    Raises:
        RuntimeError: the module for this device was not built, or cannot be loaded.
        NotImplementedError: there is none for this kind of device.
    """
    if device.type == "cpu":
        return CpuSsim(cpu_module())
    if device.type == "cuda":
        return CudaSsim(cuda_module(), lambda device: torch.cuda.current_stream(device).cuda_stream)
    raise NotImplementedError(f"SSIM runs on CPUs and on NVIDIA GPUs, but the pictures are on {device}.")


@torch_op("cocogs::ssim")
def ssim_op(image: Tensor, photo: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor]:
    """The map (C, H, W) of two contiguous pictures, and what its backward pass needs: the slopes
    (3, C, H, W), gradients of the map by the averages over each pixel's window; empty if there will be none.

    Raises:
        ValueError: the pictures do not fit together.
    """
    _check_pictures(image, photo)
    ssim = ssim_on(image.device)
    values, slopes = _empty_results(image, photo, with_slopes)
    ssim.forward(image=image, photo=photo, values=values, slopes=slopes)
    return values, slopes


@torch.library.register_fake("cocogs::ssim")
def _empty_results(image: Tensor, photo: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor]:
    slopes = image.new_empty(SLOPES, *image.shape) if with_slopes else image.new_empty(0)
    return torch.empty_like(image), slopes


@torch_op("cocogs::ssim_backward")
def ssim_backward_op(image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor) -> Tensor:
    """The gradient by the image.

    Args:
        image, photo, slopes: as in and out of `ssim_op`.
        v_values: (C, H, W), the gradient by the map.

    Raises:
        ValueError: the tensors do not fit together.
    """
    _check_pictures(image, photo)
    _check_like("slopes", slopes, (SLOPES, *image.shape), image)
    _check_like("v_values", v_values, tuple(image.shape), image)
    v_image = _empty_gradient(image, photo, slopes, v_values)
    ssim_on(image.device).backward(
        image=image, photo=photo, slopes=slopes, v_values=v_values, v_image=v_image
    )
    return v_image


@torch.library.register_fake("cocogs::ssim_backward")
def _empty_gradient(image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor) -> Tensor:
    return torch.empty_like(image)


def _check_pictures(image: Tensor, photo: Tensor) -> None:
    if image.dim() != 3 or image.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"SSIM compares (C, H, W) pictures in a float type, not {tuple(image.shape)} {image.dtype}."
        )
    if max(image.shape) >= 2**31:
        raise ValueError(f"A picture of {tuple(image.shape)} is too large for SSIM.")
    _check_like("image", image, tuple(image.shape), image)
    _check_like("photo", photo, tuple(image.shape), image)


def _check_like(name: str, tensor: Tensor, shape: tuple[int, ...], image: Tensor) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != image.dtype or tensor.device != image.device:
        found = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
        raise ValueError(f"{name} must be {shape} {image.dtype} on {image.device}, not {found}.")
    if tensor.layout is not torch.strided or not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous.")


def _setup_context(ctx, inputs, output):
    image, photo, _ = inputs
    _, slopes = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(slopes)
    ctx.save_for_backward(image, photo, slopes)


@first_derivatives
def _backward(ctx, v_values, _):
    v_image = None
    if v_values is not None and ctx.needs_input_grad[0]:
        v_image = ssim_backward_op(*ctx.saved_tensors, v_values.contiguous())
    return v_image, None, None


torch.library.register_autograd("cocogs::ssim", _backward, setup_context=_setup_context)
