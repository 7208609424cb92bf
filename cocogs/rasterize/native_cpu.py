"""The native passes on a CPU.

What the forward pass keeps for the backward pass is native memory: `state` is a (1,) int64 tensor whose
storage owns that memory, so that it lives exactly as long as the autograd graph that needs it.
"""

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from cocogs.rasterize.call import Pass, addresses, gradient_strides
from cocogs.threads import pass_threads

REMEDY = (
    "The native rasterizer of cocogs (cocogs._native) cannot be loaded: {reason}. Reinstall cocogs with a "
    'C++17 compiler at hand (`pip install .`), or ask for the slow `backend="reference"` explicitly.'
)


@cache
def _load() -> ModuleType | ImportError:
    try:
        module = importlib.import_module("cocogs._native")
    except ImportError as error:
        return error
    module.keep_freed_memory()
    return module


def native() -> ModuleType:
    """The compiled module.

    Raises:
        RuntimeError: it was not built, or cannot be loaded; the message says what to do.
    """
    module = _load()
    if isinstance(module, ImportError):
        raise RuntimeError(REMEDY.format(reason=module)) from module
    return module


class CpuPasses:
    """The passes in float32 and float64."""

    def forward(self, scene: Pass, out: tuple[Tensor, ...], radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fill `out` (colors, alphas, depth sums or empty) and `radii`; return what `backward` needs."""
        state = native().forward(
            radii.dtype == torch.float64,
            scene.call(native()),
            pass_threads(),
            addresses(out),
            radii.data_ptr(),
        )
        nothing = torch.empty(0, dtype=torch.uint8)
        return state, nothing, nothing.clone()

    def backward(
        self,
        scene: Pass,
        kept: tuple[Tensor, Tensor, Tensor],
        out: tuple[Tensor, ...],
        v_out: tuple[Tensor | None, ...],
        grads: list[Tensor | None],
    ) -> None:
        """Fill the gradients that are not None."""
        native().backward(
            int(kept[0]),
            scene.call(native()),
            pass_threads(),
            addresses(out),
            addresses(v_out),
            addresses(grads),
            gradient_strides(grads),
        )

    def ssim(self, image: Tensor, photo: Tensor, values: Tensor, slopes: Tensor) -> None:
        """Fill `values` (C, H, W) and, unless empty, `slopes` (3, C, H, W)."""
        native().ssim(
            image.dtype == torch.float64,
            image.shape,
            pass_threads(),
            *addresses((image, photo, values, slopes)),
        )

    def ssim_backward(
        self, image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor, v_image: Tensor
    ) -> None:
        """Fill `v_image` (C, H, W)."""
        native().ssim_backward(
            image.dtype == torch.float64,
            image.shape,
            pass_threads(),
            *addresses((image, photo, slopes, v_values, v_image)),
        )
