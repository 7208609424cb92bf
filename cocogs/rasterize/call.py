"""What the native modules are told about a scene: addresses and sizes, as plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Pass:
    """The inputs of a forward pass, and of its backward pass.

    Attributes:
        inputs: means, quats, scales, opacities, blur (or None): (S|1, N, ...), contiguous, of one type.
        sh: sh0 (N, 1, 3) and shN (N, 15, 3), contiguous.
        background: (3,).
        camera: `Camera.numbers`.
        antialiased: how pixels see, see `cocogs.rasterize.rasterize`.
    """

    inputs: tuple[Tensor | None, ...]
    sh: tuple[Tensor, Tensor]
    background: Tensor
    camera: Sequence[float]
    width: int
    height: int
    sh_degree: int
    antialiased: bool
    with_depth: bool

    def call(self, module: ModuleType) -> Any:
        """As a native module's `Call`, which checks the numbers."""
        return module.Call(
            inputs=[*addresses((*self.inputs, *self.sh)), 0],
            strides=[*strides(self.inputs), 0, 0, 0],
            count=len(self.sh[0]),
            sets=set_count(self.inputs),
            sh_degree=self.sh_degree,
            width=self.width,
            height=self.height,
            camera=self.camera,
            background=self.background.data_ptr(),
            antialiased=self.antialiased,
            with_depth=self.with_depth,
        )


def addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr() for tensor in tensors]


def strides(tensors: Sequence[Tensor | None]) -> list[int]:
    """Numbers between the sets of (S|1, N, ...) tensors; 0 where all sets share one."""
    return [0 if tensor is None or tensor.shape[0] == 1 else tensor[0].numel() for tensor in tensors]


def gradient_strides(grads: Sequence[Tensor | None]) -> list[int]:
    """The same for gradients by the inputs, sh0, shN and the projected means."""
    return [*strides(grads[:5]), 0, 0, *strides(grads[7:])]


def set_count(tensors: Sequence[Tensor | None]) -> int:
    return max(tensor.shape[0] for tensor in tensors if tensor is not None)
