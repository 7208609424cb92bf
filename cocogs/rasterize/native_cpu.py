"""The native passes on a CPU.

What the forward pass keeps for the backward pass is native memory. `state` is a (1,) int64 tensor whose
storage owns that memory, so that it lives exactly as long as the autograd graph that needs it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from cocogs.rasterize.call import Pass, PassTooLarge, address, arrays, check_contiguous, pictures
from cocogs.threads import pass_threads


class CpuPasses:
    """The passes in float32 and float64. Ctrl-C ends them within a fraction of a second.

    Args:
        module: `cocogs.compiled.cpu_module()`.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def forward(self, scene: Pass, out: tuple[Tensor, ...], radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fills `out` (colors, alphas, depth sums or empty) and `radii`; returns what `backward` needs.

        Raises:
            PassTooLarge: there is too little memory for this scene.
        """
        with self._errors():
            state = self.module.forward(
                is_double=radii.dtype == torch.float64,
                call=scene.call(self.module),
                threads=pass_threads(),
                out=pictures(self.module, *out),
                radii=address(radii),
            )
        return state, torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)

    def backward(
        self,
        scene: Pass,
        kept: tuple[Tensor, Tensor, Tensor],
        out: tuple[Tensor, ...],
        v_out: tuple[Tensor | None, ...],
        grads: Mapping[str, Tensor | None],
    ) -> None:
        """Fills the gradients that are not None.

        Raises:
            ValueError: `kept` is not of a forward pass of these sizes.
            PassTooLarge: there is too little memory for this scene.
        """
        with self._errors():
            self.module.backward(
                is_double=scene.means.dtype == torch.float64,
                state=state_number(kept[0]),
                call=scene.call(self.module),
                threads=pass_threads(),
                out=pictures(self.module, *out),
                v_out=pictures(self.module, *v_out),
                v=arrays(self.module, grads),
            )

    def contributors(self, scene: Pass, ids: Tensor, weights: Tensor) -> None:
        """Fills `ids` and `weights` (count, H, W).

        Raises:
            ValueError: `scene` is of several sets, or there are too many ids.
            PassTooLarge: there is too little memory for this scene.
        """
        radii = weights.new_empty(scene.count)  # nobody wants them
        with self._errors():
            self.module.contributors(
                is_double=weights.dtype == torch.float64,
                call=scene.call(self.module),
                threads=pass_threads(),
                count=len(ids),
                ids=address(ids),
                weights=address(weights),
                radii=address(radii),
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self.module.TooLarge as error:
            raise PassTooLarge(str(error)) from None


def state_number(state: Tensor) -> int:
    """The number that a forward pass put into its state.

    Raises:
        ValueError: it is no such tensor.
    """
    if state.shape != (1,) or state.dtype != torch.int64 or state.device.type != "cpu":
        raise ValueError(f"The state must be one int64 on the CPU, not {tuple(state.shape)} {state.dtype}.")
    check_contiguous("state", state)
    return int(state)
