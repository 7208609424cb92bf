"""The native passes on an NVIDIA GPU: `cocogs._cuda`, in torch's memory and torch's current stream.

The forward pass keeps two blocks of device memory for the backward pass: the splats and the tiles' lists.
`state` is a (1,) int64 tensor on the CPU with the number of intersections, by which both passes size their
memory. Reading that number is the one time that a step waits for the device; within `use_room` it does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cocogs.rasterize.call import Pass, PassTooLarge, address, arrays, check_contiguous, pictures
from cocogs.rasterize.native_cpu import state_number
from cocogs.rasterize.room import MOST_INTERSECTIONS, current_room


def current_stream(device: torch.device) -> int:
    """The address of torch's current CUDA stream."""
    return torch.cuda.current_stream(device).cuda_stream


@dataclass(frozen=True)
class Listed:
    """Splats on their way to the tiles: what the native module wants to list them and to walk the lists.

    Attributes:
        call: the module's `Call`.
        stream: address of the CUDA stream.
        splats, lists: device memory for the backward pass too; `lists` is still to be filled.
        work, list_work: device memory for this pass alone.
    """

    call: object
    stream: int
    intersections: int
    splats: Tensor
    work: Tensor
    lists: Tensor
    list_work: Tensor

    @property
    def arguments(self) -> dict[str, Any]:
        """Keywords of the module's functions."""
        return {
            "call": self.call,
            "stream": self.stream,
            "intersections": self.intersections,
            "kept": self.splats.data_ptr(),
            "work": self.work.data_ptr(),
            "kept_lists": self.lists.data_ptr(),
            "list_work": self.list_work.data_ptr(),
        }


class CudaPasses:
    """The passes in float32. They make the tensors' device the current one, because kernels start only there.

    Args:
        module: `cocogs.compiled.cuda_module()`; tests bring one that runs on a CPU.
        stream_of: address of the CUDA stream to work in, for a device.
    """

    def __init__(self, module: ModuleType, stream_of: Callable[[torch.device], int] = current_stream) -> None:
        self.module, self.stream_of = module, stream_of

    def forward(self, scene: Pass, out: tuple[Tensor, ...], radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fills `out` (colors, alphas, depth sums or empty) and `radii`; returns what `backward` needs.

        Raises:
            ValueError: the tensors are not float32.
            PassTooLarge: the splats cover too many tiles.
            torch.OutOfMemoryError: the device has too little memory.
        """
        with torch.cuda.device_of(radii):
            listed = self._list_splats(scene, radii)
            self.module.draw(**listed.arguments, out=pictures(self.module, *out))
        return torch.tensor([listed.intersections], device="cpu"), listed.splats, listed.lists

    def contributors(self, scene: Pass, ids: Tensor, weights: Tensor) -> None:
        """Fills `ids` and `weights` (count, H, W).

        Raises:
            ValueError: the tensors are not float32, or are of several sets; or there are too many ids.
            PassTooLarge: the splats cover too many tiles.
            torch.OutOfMemoryError: the device has too little memory.
        """
        with torch.cuda.device_of(weights):
            listed = self._list_splats(scene, weights.new_empty(scene.count))
            self.module.contributors(
                **listed.arguments, count=len(ids), ids=address(ids), weights=address(weights)
            )

    def _list_splats(self, scene: Pass, radii: Tensor) -> "Listed":
        """Projects and sorts the splats, fills `radii`, and finds memory for the lists of the tiles."""
        if radii.dtype != torch.float32:
            raise ValueError(f"On a GPU the Gaussians must be float32, not {radii.dtype}.")
        room = current_room()
        call, stream = scene.call(self.module), self.stream_of(radii.device)
        splats, work = _memory(radii, self.module.projection_sizes(call))
        most, total = (0, 0) if room is None else room.limit()
        intersections = self.module.project_and_order(
            call=call,
            kept=splats.data_ptr(),
            work=work.data_ptr(),
            radii=radii.data_ptr(),
            room=most,
            total=total,
            stream=stream,
        )
        if room is not None:
            room.most = intersections
        if intersections > MOST_INTERSECTIONS:
            raise PassTooLarge(
                f"The Gaussians touch {intersections:,} image tiles in all, more than 2^31: they are "
                f"too large, or too many, for a picture of {scene.width} x {scene.height} px."
            )
        lists, list_work = _memory(radii, self.module.list_sizes(call, intersections))
        return Listed(call, stream, intersections, splats, work, lists, list_work)

    def backward(
        self,
        scene: Pass,
        kept: tuple[Tensor, Tensor, Tensor],
        out: tuple[Tensor, ...],
        v_out: tuple[Tensor | None, ...],
        grads: Mapping[str, Tensor | None],
    ) -> None:
        """Fills the gradients that are not None. The same inputs give the same bits.

        Raises:
            ValueError: `kept` is not of a forward pass of these sizes.
            torch.OutOfMemoryError: the device has too little memory.
        """
        state, splats, lists = kept
        call, intersections = scene.call(self.module), state_number(state)
        self._check_kept(scene, call, intersections, splats, lists)
        with torch.cuda.device_of(splats):
            (work,) = _memory(splats, (self.module.backward_size(call, intersections),))
            self.module.backward(
                call=call,
                intersections=intersections,
                kept=splats.data_ptr(),
                kept_lists=lists.data_ptr(),
                work=work.data_ptr(),
                out=pictures(self.module, *out),
                v_out=pictures(self.module, *v_out),
                v=arrays(self.module, grads),
                stream=self.stream_of(splats.device),
            )

    def _check_kept(
        self, scene: Pass, call: object, intersections: int, splats: Tensor, lists: Tensor
    ) -> None:
        if not 0 <= intersections <= MOST_INTERSECTIONS:
            raise ValueError(f"The state holds no number of intersections: {intersections}.")
        sizes = {
            "splats": (splats, self.module.projection_sizes(call)[0]),
            "lists": (lists, self.module.list_sizes(call, intersections)[0]),
        }
        for name, (tensor, size) in sizes.items():
            if tensor.shape != (size,) or tensor.dtype != torch.uint8 or tensor.device != scene.means.device:
                raise ValueError(f"{name} are of a forward pass of other sizes than this backward pass.")
            check_contiguous(name, tensor)


def _memory(like: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Blocks of bytes on the device of `like`."""
    return tuple(torch.empty(size, dtype=torch.uint8, device=like.device) for size in sizes)
