"""The native passes on an NVIDIA GPU: `cocogs._cuda`, in torch's memory and torch's current stream.

What the forward pass keeps for the backward pass are two blocks of device memory, the splats and the tiles'
lists. `state` is a (1,) int64 tensor on the CPU with the number of intersections, by which both passes
size their memory: reading it is the one time that a step waits for the device. Within `use_room` there is
no need to.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from cocogs.rasterize.call import Pass, addresses, gradient_strides

REMEDY = (
    "This cocogs has no CUDA rasterizer ({reason}): install the CUDA toolkit (nvcc 12 or newer) and "
    "reinstall cocogs with `pip install --force-reinstall --no-deps .`, or keep the tensors on the CPU."
)
MOST_INTERSECTIONS = 2**31 - 1
"""Splats and tiles meet at most so often in one call: they are numbered with 32 bits."""


class Room:
    """Memory for so many intersections of a call: where it is given beforehand, as for a CUDA graph, none
    waits for their number. Splats that find no room, the farthest, are not drawn.

    Attributes:
        most: None where it is not known yet: the call waits then, and notes the number here.
        needed: (1,) int64 on the device: the last call's number; larger than `most` where some found none.
    """

    def __init__(self, device: torch.device, most: int | None = None) -> None:
        self.most = most
        self.needed = torch.zeros(1, dtype=torch.int64, device=device)

    def limit(self) -> tuple[int, int]:
        """`most` and the address of `needed`, by which a call does not wait; zeros where it has to."""
        return (0, 0) if self.most is None else (self.most, self.needed.data_ptr())


_room: Room | None = None


@contextmanager
def use_room(room: Room) -> Iterator[None]:
    """Calls of `rasterize` on a GPU keep to this room."""
    global _room
    _room = room
    try:
        yield
    finally:
        _room = None


@cache
def _load() -> ModuleType | ImportError:
    try:
        return importlib.import_module("cocogs._cuda")
    except ImportError as error:
        return error


def is_built() -> bool:
    """Whether cocogs was installed with a CUDA compiler at hand."""
    return not isinstance(_load(), ImportError)


def passes() -> "CudaPasses":
    """The passes of the installed module.

    Raises:
        RuntimeError: it was not built, or cannot be loaded; the message says what to do.
    """
    module = _load()
    if isinstance(module, ImportError):
        raise RuntimeError(REMEDY.format(reason=module)) from module
    return CudaPasses(module, lambda device: torch.cuda.current_stream(device).cuda_stream)


class CudaPasses:
    """The passes in float32. The device of the tensors is made the current one meanwhile: kernels start only
    there.

    Args:
        module: the compiled module; tests bring one that runs on a CPU.
        stream_of: address of the CUDA stream to work in, for a device.
    """

    def __init__(self, module: ModuleType, stream_of: Callable[[torch.device], int]) -> None:
        self.module, self.stream_of = module, stream_of

    def forward(self, scene: Pass, out: tuple[Tensor, ...], radii: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fill `out` (colors, alphas, depth sums or empty) and `radii`; return what `backward` needs.

        Raises:
            ValueError: the tensors are not float32, or the splats cover too many tiles.
            torch.OutOfMemoryError: the device has too little memory.
        """
        if radii.dtype != torch.float32:
            raise ValueError(f"On a GPU the Gaussians must be float32, not {radii.dtype}.")
        with torch.cuda.device_of(radii):
            call, stream = scene.call(self.module), self.stream_of(radii.device)
            splats, work = _memory(radii, self.module.projection_sizes(call))
            limit = (0, 0) if _room is None else _room.limit()
            intersections = self.module.project_and_order(
                call, splats.data_ptr(), work.data_ptr(), radii.data_ptr(), *limit, stream
            )
            if _room is not None:
                _room.most = intersections
            if intersections > MOST_INTERSECTIONS:
                raise ValueError(
                    f"The Gaussians touch {intersections:,} image tiles in all, more than 2^31: they are "
                    "too large, or too many, for this image."
                )
            lists, list_work = _memory(radii, self.module.list_sizes(call, intersections))
            self.module.draw(
                call,
                intersections,
                splats.data_ptr(),
                work.data_ptr(),
                lists.data_ptr(),
                list_work.data_ptr(),
                addresses(out),
                stream,
            )
        return torch.tensor([intersections], device="cpu"), splats, lists

    def backward(
        self,
        scene: Pass,
        kept: tuple[Tensor, Tensor, Tensor],
        out: tuple[Tensor, ...],
        v_out: tuple[Tensor | None, ...],
        grads: list[Tensor | None],
    ) -> None:
        """Fill the gradients that are not None. The same inputs give the same bits.

        Raises:
            torch.OutOfMemoryError: the device has too little memory.
        """
        state, splats, lists = kept
        call, intersections = scene.call(self.module), int(state)
        with torch.cuda.device_of(splats):
            (work,) = _memory(splats, (self.module.backward_size(call, intersections),))
            self.module.backward(
                call,
                intersections,
                splats.data_ptr(),
                lists.data_ptr(),
                work.data_ptr(),
                addresses(out),
                addresses(v_out),
                addresses(grads),
                gradient_strides(grads),
                self.stream_of(splats.device),
            )

    def ssim(self, image: Tensor, photo: Tensor, values: Tensor, slopes: Tensor) -> None:
        """Fill `values` (C, H, W) and, unless empty, `slopes` (3, C, H, W).

        Raises:
            ValueError: the pictures are not float32.
        """
        if image.dtype != torch.float32:
            raise ValueError(f"On a GPU the pictures must be float32, not {image.dtype}.")
        pictures = addresses((image, photo, values, slopes))
        with torch.cuda.device_of(image):
            self.module.ssim(image.shape, *pictures, self.stream_of(image.device))

    def ssim_backward(
        self, image: Tensor, photo: Tensor, slopes: Tensor, v_values: Tensor, v_image: Tensor
    ) -> None:
        """Fill `v_image` (C, H, W). The same inputs give the same bits."""
        pictures = addresses((image, photo, slopes, v_values, v_image))
        with torch.cuda.device_of(image):
            self.module.ssim_backward(image.shape, *pictures, self.stream_of(image.device))


def _memory(like: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Blocks of bytes on the device of `like`."""
    return tuple(torch.empty(size, dtype=torch.uint8, device=like.device) for size in sizes)
