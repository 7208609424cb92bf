"""The inputs of a pass: what they must be, and as what the compiled modules get them.

The compiled modules get addresses and sizes as plain numbers and believe them. `Pass` checks the tensors, and
the torch ops make no call without one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cocogs.errors import InputError

CAMERA_NUMBERS = 24  # of `Camera.numbers`
PLACE_NUMBERS = 15  # of `Camera.place_like`
MOST_PIXELS = 16 * 65535  # on a side of a picture: tiles of 16 px, numbered with 16 bits
PER_SET = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "blur": (), "shift": (2,)}
"""Shape per Gaussian of the inputs (S|1, N, ...) that may differ between sets."""
OPTIONAL = {"blur", "shift", "background", "means2d_probe"}
"""Inputs that a caller may leave out."""
SHARED = {"sh0": (1, 3), "shN": (15, 3)}
"""Shape per Gaussian of the inputs (N, ...) that all sets share."""


class PassTooLarge(InputError, ValueError):
    """Gaussians meet so many tiles of a picture that the lists of them do not fit into memory."""


@dataclass(frozen=True)
class Pass:
    """The inputs of a forward pass, and of its backward pass. All tensors are contiguous, of one float type
    and on one device. A pass that draws no colours has no sh0, no shN and no background.

    Attributes:
        means, quats, scales, opacities, blur, shift: (S|1, N, ...), see `PER_SET`.
        sh0, shN: (N, 1, 3) and (N, 15, 3).
        background: (3,).
        camera: `Camera.numbers`.
        place: (15,) that stand for the first of them, read when the pass runs; see `Camera.place`.
        antialiased: how pixels see, see `cocogs.rasterize.rasterize`.
        with_depth: whether the pass also renders depth, or gets a gradient by it.

    Raises:
        ValueError: a shape, type, device, memory layout or number does not fit.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    blur: Tensor | None
    shift: Tensor | None
    sh0: Tensor | None
    shN: Tensor | None
    background: Tensor | None
    camera: Sequence[float]
    place: Tensor | None
    width: int
    height: int
    sh_degree: int
    antialiased: bool
    with_depth: bool

    def __post_init__(self) -> None:
        if self.means.dim() != 3:
            raise ValueError(f"means must have shape (S, N, 3), not {tuple(self.means.shape)}.")
        check_gaussians(self.per_set, self.sh0, self.shN, self.background, self.sh_degree)
        for name, tensor in self.per_set.items():
            if tensor is not None and tensor.dim() != 2 + len(PER_SET[name]):
                raise ValueError(f"{name} must have an axis of sets, but its shape is {tuple(tensor.shape)}.")
        for name, tensor in (self.per_set | self.shared).items():
            check_contiguous(name, tensor)
        if len(self.camera) != CAMERA_NUMBERS or not all(map(math.isfinite, self.camera)):
            raise ValueError(f"The camera must be {CAMERA_NUMBERS} finite numbers, not {list(self.camera)}.")
        if self.place is not None:
            check_tensor("place", self.place, (PLACE_NUMBERS,), self.means)
            check_contiguous("place", self.place)
        if not (1 <= self.width <= MOST_PIXELS and 1 <= self.height <= MOST_PIXELS):
            raise ValueError(
                f"A picture must have between 1 and {MOST_PIXELS:,} pixels on each side, not "
                f"{self.width} x {self.height}."
            )

    def check_values(self) -> None:
        """Refuses negative blur and scales, on a CPU. A look at the values would wait for a GPU. There the
        sign of a scale does not matter, and a Gaussian is not drawn where the blur leaves it no positive
        variance. NaN passes everywhere, and is not drawn either.

        Raises:
            ValueError: a value is negative.
        """
        if self.means.device.type != "cpu":
            return
        for name, tensor in (("blur", self.blur), ("scales", self.scales)):
            if tensor is not None and tensor.numel() > 0 and tensor.min() < 0:
                raise ValueError(f"{name} must not be negative, but its least value is {tensor.min():.3g}.")

    @property
    def per_set(self) -> dict[str, Tensor | None]:
        """The inputs that may differ between sets."""
        return {name: getattr(self, name) for name in PER_SET}

    @property
    def shared(self) -> dict[str, Tensor | None]:
        """The inputs that all sets share."""
        return {"sh0": self.sh0, "shN": self.shN, "background": self.background}

    @property
    def sets(self) -> int:
        return max(len(tensor) for tensor in self.per_set.values() if tensor is not None)

    @property
    def count(self) -> int:
        """Gaussians per set."""
        return self.means.shape[1]

    @property
    def picture_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the pictures that the pass draws."""
        size = (self.height, self.width)
        return {"colors": (self.sets, 3, *size), "alphas": (self.sets, *size), "depths": (self.sets, *size)}

    @property
    def gradient_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Shapes of the gradients, in the order in which the backward op gives them; None without input."""
        inputs = self.per_set | {"sh0": self.sh0, "shN": self.shN}
        shapes = {name: None if tensor is None else tuple(tensor.shape) for name, tensor in inputs.items()}
        return shapes | {"means2d": (self.sets, self.count, 2)}

    def check_picture(self, name: str, tensor: Tensor | None) -> None:
        """Refuses a picture, or a gradient by one, that is not as this pass draws it.

        Args:
            name: colors, alphas or depths; v_colors and so on for a gradient.
            tensor: None passes.

        Raises:
            ValueError: shape, type, device or memory layout do not fit.
        """
        if tensor is None:
            return
        shape = self.picture_shapes[name.removeprefix("v_")]
        check_tensor(name, tensor, shape, self.means)
        check_contiguous(name, tensor)

    def call(self, module: ModuleType) -> Any:
        """As a native module's `Call`, which checks the numbers once more."""
        return module.Call(
            gaussians=arrays(module, self.per_set | {"sh0": self.sh0, "shN": self.shN}),
            count=self.count,
            sets=self.sets,
            sh_degree=self.sh_degree,
            width=self.width,
            height=self.height,
            camera=self.camera,
            place=address(self.place),
            background=address(self.background),
            antialiased=self.antialiased,
            with_depth=self.with_depth,
        )


def check_types(given: Mapping[str, object]) -> None:
    """Refuses what is no tensor, by name. What is `OPTIONAL` may be None.

    Raises:
        ValueError: something is no tensor.
    """
    for name, value in given.items():
        if not (isinstance(value, Tensor) or (value is None and name in OPTIONAL)):
            raise ValueError(f"{name} must be a tensor, not {type(value).__name__}.")


def check_gaussians(
    per_set: Mapping[str, Tensor | None],
    sh0: Tensor | None,
    shN: Tensor | None,
    background: Tensor | None,
    sh_degree: int,
) -> int:
    """Checks shapes, types and devices of the inputs, with or without an axis of sets. Returns S.

    Raises:
        ValueError: one of them does not fit.
    """
    means = per_set["means"]
    assert means is not None
    count = means.shape[-2] if means.dim() >= 2 else -1
    sets = 1
    for name, tensor in per_set.items():
        if tensor is None:
            continue
        shape = (count, *PER_SET[name])
        if tensor.dim() not in (len(shape), len(shape) + 1) or tuple(tensor.shape[-len(shape) :]) != shape:
            wanted = ", ".join(str(size) if size >= 0 else "N" for size in shape)
            raise ValueError(
                f"{name} must have shape ({wanted}) or (S, {wanted}), not {tuple(tensor.shape)}."
            )
        if tensor.dim() > len(shape) and tensor.shape[0] != 1:
            if sets not in (1, tensor.shape[0]) or tensor.shape[0] == 0:
                raise ValueError(f"{name} has {tensor.shape[0]} sets where another input has {sets}.")
            sets = tensor.shape[0]
    if not 0 <= sh_degree <= 3:
        raise ValueError(f"sh_degree must lie between 0 and 3, not {sh_degree}.")
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"The Gaussians must be float32 or float64, not {means.dtype}.")
    for name, tensor in per_set.items():
        if tensor is not None:
            check_tensor(name, tensor, tuple(tensor.shape), means)
    for name, tensor, shape in (
        ("sh0", sh0, (count, *SHARED["sh0"])),
        ("shN", shN, (count, *SHARED["shN"])),
        ("background", background, (3,)),
    ):
        if tensor is not None:
            check_tensor(name, tensor, shape, means)
    return sets


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], means: Tensor) -> None:
    """Refuses a tensor of another shape, or of another type or on another device than `means`.

    Raises:
        ValueError: it does not fit.
    """
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}.")
    if tensor.dtype != means.dtype or tensor.device != means.device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device}, but means are {means.dtype} on {means.device}."
        )


def check_contiguous(name: str, tensor: Tensor | None) -> None:
    """Refuses a tensor whose numbers do not lie in its memory one after another.

    Raises:
        ValueError: they do not.
    """
    if tensor is None:
        return
    if tensor.layout is not torch.strided or not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous.")


def address(tensor: Tensor | None) -> int:
    """Where a tensor's numbers lie; 0 for None and for an empty one."""
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def arrays(module: ModuleType, tensors: Mapping[str, Tensor | None]) -> Any:
    """The inputs, or the gradients by them, as a native module's `Arrays`: by name, (address, numbers from
    one set to the next). The second is 0 where all sets share one. Both are 0 for a name that is missing."""
    names = (*PER_SET, *SHARED, "means2d")
    return module.Arrays(**{name: _array(name, tensors.get(name)) for name in names})


def _array(name: str, tensor: Tensor | None) -> tuple[int, int]:
    if tensor is None or name in SHARED or len(tensor) == 1:
        return address(tensor), 0
    return address(tensor), tensor.numel() // len(tensor)


def pictures(module: ModuleType, colors: Tensor | None, alphas: Tensor | None, depths: Tensor | None) -> Any:
    """Pictures, or the gradients by them, as a native module's `Pictures`."""
    return module.Pictures(colors=address(colors), alphas=address(alphas), depths=address(depths))
