"""Gaussians and a camera in, pictures out: `rasterize`. And `release_memory`, for when there are no more.

- `contributors.py`: not the picture, but the splats that each pixel shows.
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
from cocogs.compiled import cpu_module
from cocogs.rasterize.call import PassTooLarge, check_gaussians, check_tensor, check_types

__all__ = ["Backend", "PassTooLarge", "Render", "rasterize", "release_memory"]

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
    shift: Float[Tensor, "*#S N 2"] | None = None,
    sh_degree: int = 3,
    background: Float[Tensor, "3"] | None = None,
    antialiased: bool = False,
    with_depth: bool = False,
    means2d_probe: Float[Tensor, "S N 2"] | None = None,
    backend: Backend = "native",
) -> Render:
    """Draws S sets of N Gaussians.

    Inputs that may differ between sets have a leading axis of S or 1, or none. The sets share an input whose
    axis is 1 or missing; its gradient is the sum over the sets.

    Args:
        means: centres in the world.
        quats: wxyz, of any positive length.
        scales: standard deviations along the axes, scene units, >= 0.
        opacities: >= 0. Above 1 a splat is opaque to farther from its centre; no pixel's alpha exceeds .999.
        sh0: colour of degree 0.
        shN: colour of degrees 1 to 3.
        camera: the pinhole camera; no gradient flows to it.
        blur: variance in px^2, >= 0, by which each projected Gaussian is widened on both axes. Its opacity
            falls so that its integral stays. None = 0. For a circle of confusion see
            `cocogs.optics.lens.blur_variance`.
        shift: px, to the right and down, by which each projected centre is moved in the picture. Sets that
            differ in nothing else are projected once, and on a CPU sorted once. None = 0.
        sh_degree: bands of colour that are used, 0 to 3; the gradient of the others is zero.
        background: colour behind everything; None = black.
        antialiased: pixels average over what they cover. Splats thinner than a pixel get fainter, and a scene
            looks alike in pictures of every size. Otherwise such splats get wider instead, as in 3DGS. Draw
            a scene as it was trained.
        with_depth: also renders depth.
        means2d_probe: zeros that require a gradient. After the backward pass the gradient tells how hard the
            pixels pull at each projected mean: per axis the sum over pixels of the gradient's length, in
            1/px, as densification wants it. Pulls to opposite sides do not cancel.
        backend: "native"; or, asked for explicitly, "reference" (slow) or "gsplat" (on a CPU, without blur
            and shift).

    Raises:
        ValueError: shapes, types or devices do not fit together; or, on a CPU, scales or blur are negative.
            On a GPU, where that check would cost time, a Gaussian with a negative variance is not drawn.
        PassTooLarge: (a ValueError and an `InputError`) there is too little memory for this scene.
        RuntimeError: the native module is missing.
        NotImplementedError: the tensors are on a device that the backend does not know yet.

    There are first derivatives by backward passes alone: a second derivative is an error, and a forward-mode
    one is 0.

    Source:
        Kerbl et al., 3D Gaussian Splatting (2023); thresholds as gsplat's classic mode. Antialiasing: Yu et
        al., Mip-Splatting (2024). The probe: Ye et al., AbsGS (2024).
    """
    per_set = {"means": means, "quats": quats, "scales": scales, "opacities": opacities}
    per_set |= {"blur": blur, "shift": shift}
    check_types(per_set | {"sh0": sh0, "shN": shN, "background": background, "means2d_probe": means2d_probe})
    if not isinstance(camera, Camera):
        raise ValueError(f"camera must be a Camera, not {type(camera).__name__}.")
    sets = check_gaussians(per_set, sh0, shN, background, sh_degree)
    if means2d_probe is not None:
        check_tensor("means2d_probe", means2d_probe, (sets, means.shape[-2], 2), means)
    if backend == "native":
        from cocogs.rasterize import native as module

        sets = 1  # it takes shared inputs as they are; the other backends want full sets
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
            None if shift is None else _with_sets(shift, 2, sets),
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


def release_memory() -> None:
    """Gives back to the system the memory that the passes keep for the next ones.

    Passes on a CPU keep what the last eight of them needed, which for large pictures are gigabytes. Call this
    where no pass will follow soon: after a film, a viewer session, a training. The next pass takes a little
    longer. On a GPU, torch's own cache is emptied.
    """
    cpu_module().release_memory()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
