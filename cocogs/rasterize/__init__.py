"""Gaussians and a camera in, images out: `rasterize`.

- `native.py`: the fast one (C++, cuda_ext/), the default.
- `reference.py`: the specification, in plain torch.
- `via_gsplat.py`: gsplat's kernels, an independent judge for tests.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera

Backend = Literal["native", "reference", "gsplat"]


@dataclass
class Render:
    """What a camera sees of S sets of N Gaussians.

    Attributes:
        colors: not clamped above.
        alphas: 1 - transmittance, in [0, 1].
        depths: expected z-depth in scene units, where it was asked for: the mean depth of the
            splats by their weight, 0 where nothing is.
        radii: px, half the larger side of the box around the visible part of a splat, 0 where the
            Gaussian is not drawn; not differentiable.
    """

    colors: Float[Tensor, "S 3 H W"]
    alphas: Float[Tensor, "S H W"]
    depths: Float[Tensor, "S H W"] | None
    radii: Float[Tensor, "S N"]


def rasterize(
    means: Float[Tensor, "*#S N 3"],
    quats: Float[Tensor, "*#S N 4"],
    scales: Float[Tensor, "*#S N 3"],
    opacities: Float[Tensor, "*#S N"],
    sh0: Float[Tensor, "N 1 3"],
    shN: Float[Tensor, "N 15 3"],
    camera: Camera,
    *,
    blur: Float[Tensor, "*#S N"] | None = None,
    sh_degree: int = 3,
    background: Float[Tensor, "3"] | None = None,
    antialiased: bool = False,
    with_depth: bool = False,
    means2d_probe: Float[Tensor, "S N 2"] | None = None,
    backend: Backend = "native",
) -> Render:
    """Draws S sets of N Gaussians.

    S is the largest leading size of the inputs that may differ between sets (S or 1, or no such axis);
    sets share the others, whose gradient is the sum over the sets.

    Args:
        means: centres in the world.
        quats: wxyz, of any positive length.
        scales: standard deviations along the axes, scene units, > 0.
        opacities: >= 0; above 1 a splat is opaque to farther from its centre, and no pixel's alpha exceeds
            .999.
        sh0: colour of degree 0.
        shN: colour of degrees 1 to 3.
        camera: the pinhole camera; no gradient flows to it.
        blur: variance in px^2, >= 0, by which each projected Gaussian is widened on both axes; its opacity
            falls so that its integral stays. None = 0. For a circle of confusion see
            `cocogs.optics.lens.blur_variance`.
        sh_degree: bands of colour that are used, 0 to 3; the gradient of the others is zero.
        background: colour behind everything; None = black.
        antialiased: pixels average over what they cover: splats thinner than a pixel get fainter, and a scene
            looks alike in pictures of every size. Else, as 3DGS draws, such splats get wider instead. A scene
            is to be drawn as it was trained.
        with_depth: also renders depth.
        means2d_probe: zeros that require a gradient; after the backward pass it tells how hard the pixels
            pull at each projected mean: per axis the sum over pixels of the gradient's length, in 1/px, as
            densification wants it. Pulls to opposite sides do not cancel.
        backend: "native"; or, asked for explicitly, "reference" (slow) or "gsplat" (without blur, and on CUDA
            without antialiasing).

    Raises:
        ValueError: shapes, types or devices do not fit together.
        RuntimeError: the native module is missing.
        NotImplementedError: the tensors are on a device that the backend does not know yet.

    Source:
        Kerbl et al., 3D Gaussian Splatting (2023); thresholds as gsplat's classic mode. Antialiasing: Yu et
        al., Mip-Splatting (2024). The probe: Ye et al., AbsGS (2024).
    """
    sets = _check(means, quats, scales, opacities, blur, sh0, shN, background, means2d_probe, sh_degree)
    if backend == "native":
        from cocogs.rasterize import native as module

        sets = 1  # it shares what the sets share; the others know full sets only
    elif backend == "reference":
        from cocogs.rasterize import reference as module
    elif backend == "gsplat":
        from cocogs.rasterize import via_gsplat as module
    else:
        raise ValueError(f'backend must be "native", "reference" or "gsplat", not {backend!r}.')
    return Render(
        *module.rasterize(
            _with_sets(means, 2, sets),
            _with_sets(quats, 2, sets),
            _with_sets(scales, 2, sets),
            _with_sets(opacities, 1, sets),
            sh0,
            shN,
            camera,
            None if blur is None else _with_sets(blur, 1, sets),
            sh_degree,
            means.new_zeros(3) if background is None else background,
            antialiased,
            with_depth,
            means2d_probe,
        )
    )


def _with_sets(tensor: Tensor, dims: int, sets: int) -> Tensor:
    """A tensor with `dims` axes per set, with an axis of sets before them, at least `sets` long."""
    if tensor.dim() == dims:
        tensor = tensor[None]
    return tensor.expand(sets, *tensor.shape[1:]) if len(tensor) == 1 else tensor


def _check(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    sh0: Tensor,
    shN: Tensor,
    background: Tensor | None,
    means2d_probe: Tensor | None,
    sh_degree: int,
) -> int:
    """The number of sets, after checking everything that native code relies on."""
    count = means.shape[-2] if means.dim() >= 2 else -1
    per_set = {
        "means": (means, (count, 3)),
        "quats": (quats, (count, 4)),
        "scales": (scales, (count, 3)),
        "opacities": (opacities, (count,)),
        "blur": (blur, (count,)),
    }
    sets = 1
    for name, (tensor, shape) in per_set.items():
        if tensor is None:
            continue
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
    fixed = {
        "sh0": (sh0, (count, 1, 3)),
        "shN": (shN, (count, 15, 3)),
        "background": (background, (3,)),
        "means2d_probe": (means2d_probe, (sets, count, 2)),
    }
    for name, (tensor, shape) in fixed.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}.")
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"The Gaussians must be float32 or float64, not {means.dtype}.")
    for name, (tensor, _) in (per_set | fixed).items():
        if tensor is not None and (tensor.dtype != means.dtype or tensor.device != means.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, but means are {means.dtype} on {means.device}."
            )
    return sets
