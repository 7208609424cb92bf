"""The native rasterizer (cuda_ext/) as torch ops with autograd.

Two ops: `cocogs::rasterize` and `cocogs::rasterize_backward`. What the forward pass keeps for the
backward pass is native memory; the op returns it as `saved`, a (1,) int64 tensor whose storage owns
that memory, so that it lives exactly as long as the autograd graph that needs it.
"""

import importlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from cocogs.camera import Camera

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


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def _strides(tensors: Sequence[Tensor | None]) -> list[int]:
    """Numbers between the sets of (S|1, N, ...) tensors; 0 where all sets share one."""
    return [0 if tensor is None or tensor.shape[0] == 1 else tensor[0].numel() for tensor in tensors]


def _call(
    inputs: Sequence[Tensor | None],
    sh: tuple[Tensor, Tensor],
    background: Tensor,
    camera: Sequence[float],
    width: int,
    height: int,
    sh_degree: int,
    with_depth: bool,
):
    """What both passes are told about the scene, checked by the native side."""
    return native().Call(
        inputs=[*_addresses(inputs), *_addresses(sh), 0],
        strides=[*_strides(inputs), 0, 0, 0],
        count=len(sh[0]),
        sets=_set_count(inputs),
        sh_degree=sh_degree,
        width=width,
        height=height,
        camera=camera,
        background=background.tolist(),
        with_depth=with_depth,
        threads=torch.get_num_threads(),
    )


def _set_count(tensors: Sequence[Tensor | None]) -> int:
    return max(tensor.shape[0] for tensor in tensors if tensor is not None)


@torch.library.custom_op("cocogs::rasterize", mutates_args=(), device_types="cpu")
def rasterize_op(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    sh0: Tensor,
    shN: Tensor,
    background: Tensor,
    means2d_probe: Tensor | None,
    camera: Sequence[float],
    width: int,
    height: int,
    sh_degree: int,
    with_depth: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draws all sets.

    Args:
        means, quats, scales, opacities, blur: (S|1, N, ...), contiguous, of one float type.
        sh0, shN: (N, 1, 3) and (N, 15, 3), contiguous.
        background: (3,).
        means2d_probe: (S, N, 2); its values are not read, its gradient is that of the projected means.
        camera: 16 numbers: three rows of cam_from_world, then fx, fy, cx, cy.

    Returns:
        colors (S, 3, H, W), alphas (S, H, W), depth sums (S, H, W) (the sum of weight x depth; empty
        without depth), radii (S, N), and what the backward pass needs.
    """
    inputs = (means, quats, scales, opacities, blur)
    sets = _set_count(inputs)
    colors = means.new_empty(sets, 3, height, width)
    alphas = means.new_empty(sets, height, width)
    depths = means.new_empty(sets, height, width) if with_depth else means.new_empty(0)
    radii = means.new_empty(sets, means.shape[1])
    call = _call(inputs, (sh0, shN), background, camera, width, height, sh_degree, with_depth)
    out = _addresses((colors, alphas, depths if with_depth else None))
    saved = native().forward(means.dtype == torch.float64, call, out, radii.data_ptr())
    return colors, alphas, depths, radii, saved


@rasterize_op.register_fake
def _(
    means,
    quats,
    scales,
    opacities,
    blur,
    sh0,
    shN,
    background,
    means2d_probe,
    camera,
    width,
    height,
    sh_degree,
    with_depth,
):
    sets = _set_count((means, quats, scales, opacities, blur))
    return (
        means.new_empty(sets, 3, height, width),
        means.new_empty(sets, height, width),
        means.new_empty(sets, height, width) if with_depth else means.new_empty(0),
        means.new_empty(sets, means.shape[1]),
        means.new_empty(1, dtype=torch.int64),
    )


@torch.library.custom_op("cocogs::rasterize_backward", mutates_args=(), device_types="cpu")
def rasterize_backward_op(
    saved: Tensor,
    colors: Tensor,
    alphas: Tensor,
    depths: Tensor,
    v_colors: Tensor | None,
    v_alphas: Tensor | None,
    v_depths: Tensor | None,
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    sh0: Tensor,
    shN: Tensor,
    background: Tensor,
    camera: Sequence[float],
    width: int,
    height: int,
    sh_degree: int,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by means, quats, scales, opacities, blur, sh0, shN and the projected means.

    Those that are not `wanted` (eight flags in that order) come back empty. Gradients of inputs that the
    sets share are summed over the sets.
    """
    inputs = (means, quats, scales, opacities, blur)
    with_depth = v_depths is not None
    call = _call(inputs, (sh0, shN), background, camera, width, height, sh_degree, with_depth)
    grads = _empty_gradients((*inputs, sh0, shN), wanted)
    present = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
    strides = [*_strides(present[:5]), 0, 0, *_strides(present[7:])]
    native().backward(
        int(saved),
        call,
        _addresses((colors, alphas, depths if with_depth else None)),
        _addresses((v_colors, v_alphas, v_depths)),
        _addresses(present),
        strides,
    )
    return grads


@rasterize_backward_op.register_fake
def _(
    saved,
    colors,
    alphas,
    depths,
    v_colors,
    v_alphas,
    v_depths,
    means,
    quats,
    scales,
    opacities,
    blur,
    sh0,
    shN,
    background,
    camera,
    width,
    height,
    sh_degree,
    wanted,
):
    return _empty_gradients((means, quats, scales, opacities, blur, sh0, shN), wanted)


def _empty_gradients(
    inputs: Sequence[Tensor | None], wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    means = inputs[0]
    assert means is not None
    shapes = [() if tensor is None else tuple(tensor.shape) for tensor in inputs]
    shapes.append((_set_count(inputs[:5]), means.shape[1], 2))
    m, q, s, o, b, h0, hN, m2 = (
        means.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True)
    )
    return m, q, s, o, b, h0, hN, m2


def _setup_context(ctx, inputs, output):
    means, quats, scales, opacities, blur, sh0, shN, background, _, camera, width, height, degree, _ = inputs
    colors, alphas, depths, radii, saved = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(radii, saved)
    ctx.save_for_backward(
        saved, colors, alphas, depths, means, quats, scales, opacities, blur, sh0, shN, background
    )
    ctx.camera, ctx.size, ctx.degree = camera, (width, height), degree


def _backward(ctx, v_colors, v_alphas, v_depths, _v_radii, _v_saved):
    saved, colors, alphas, depths, *inputs, background = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [*needs[:7], needs[8]]
    incoming = [None if v is None else v.contiguous() for v in (v_colors, v_alphas, v_depths)]
    if depths.numel() == 0:
        incoming[2] = None
    pictures = (saved, colors, alphas, depths)
    view = (ctx.camera, *ctx.size, ctx.degree)
    grads = rasterize_backward_op(*pictures, *incoming, *inputs, background, *view, wanted)
    v_inputs = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
    v_background = None
    if needs[7] and v_colors is not None:
        v_background = (v_colors * (1 - alphas)[:, None]).sum((0, 2, 3))
    return (*v_inputs[:7], v_background, v_inputs[7], *[None] * 5)


rasterize_op.register_autograd(_backward, setup_context=_setup_context)


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh0: Tensor,
    shN: Tensor,
    camera: Camera,
    blur: Tensor | None,
    sh_degree: int,
    background: Tensor,
    with_depth: bool,
    means2d_probe: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Render S sets of N splats; as `cocogs.rasterize.reference.rasterize`, but inputs that the sets share
    may come once, as (1, N, ...).

    Raises:
        RuntimeError: the native module is missing.
        NotImplementedError: the tensors are not on the CPU.
    """
    native()
    if means.device.type != "cpu":
        raise NotImplementedError(
            f"The native rasterizer runs on the CPU only so far, but the tensors are on {means.device}."
        )
    pose = camera.cam_from_world[:3].flatten().tolist()
    colors, alphas, depth_sums, radii, _ = rasterize_op(
        means.contiguous(),
        quats.contiguous(),
        scales.contiguous(),
        opacities.contiguous(),
        None if blur is None else blur.contiguous(),
        sh0.contiguous(),
        shN.contiguous(),
        background,
        means2d_probe,
        [*pose, camera.fx, camera.fy, camera.cx, camera.cy],
        camera.width,
        camera.height,
        sh_degree,
        with_depth,
    )
    depths = depth_sums / alphas.clamp_min(1e-10) if with_depth else None
    return colors, alphas, depths, radii
