"""The native rasterizer (cuda_ext/) as torch ops with autograd. The device of the tensors chooses CPU or GPU.

Two ops: `cocogs::rasterize` and `cocogs::rasterize_backward`. Both check all that the compiled modules rely
on: whatever tensors and numbers they get, they raise a ValueError rather than read beyond a tensor.

The forward pass keeps three more outputs for the backward pass: `state`, `splats` and `lists`, see
native_cpu.py and native_cuda.py. Their contents are opaque; nobody but the forward pass may write them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.compiled import cpu_module, cuda_module
from cocogs.plain_torch import first_derivatives, torch_op
from cocogs.rasterize.call import Pass, check_tensor
from cocogs.rasterize.constants import DEPTH_ALPHA_MIN
from cocogs.rasterize.native_cpu import CpuPasses
from cocogs.rasterize.native_cuda import CudaPasses


def passes_on(device: torch.device) -> CpuPasses | CudaPasses:
    """The passes for tensors on a device.

    Raises:
        RuntimeError: the module for this device was not built, or cannot be loaded.
        NotImplementedError: there is none for this kind of device.
    """
    if device.type == "cpu":
        return CpuPasses(cpu_module())
    if device.type == "cuda":
        return CudaPasses(cuda_module())
    raise NotImplementedError(
        f"The native rasterizer runs on CPUs and on NVIDIA GPUs, but the tensors are on {device}."
    )


@torch_op("cocogs::rasterize")
def rasterize_op(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    shift: Tensor | None,
    sh0: Tensor,
    shN: Tensor,
    background: Tensor,
    means2d_probe: Tensor | None,
    camera: Sequence[float],
    place: Tensor | None,
    width: int,
    height: int,
    sh_degree: int,
    antialiased: bool,
    with_depth: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draws all sets.

    Args:
        means, quats, scales, opacities, blur, shift: (S|1, N, ...), contiguous, of one float type.
        sh0, shN: (N, 1, 3) and (N, 15, 3), contiguous.
        background: (3,).
        means2d_probe: (S, N, 2). Its values are not read; its gradient is the pixels' pull at the means.
        camera: `Camera.numbers`.
        place: see `Pass`.
        antialiased: see `cocogs.rasterize.rasterize`.

    Returns:
        colors (S, 3, H, W), alphas (S, H, W), depth sums (S, H, W) (the sum of weight x depth; empty
        without depth), radii (S, N), and what the backward pass needs: state, splats, lists.

    Raises:
        ValueError: an input does not fit, see `Pass` and `Pass.check_values`.
        PassTooLarge: there is too little memory for this scene.
    """
    inputs = (means, quats, scales, opacities, blur, shift, sh0, shN, background)
    scene = Pass(*inputs, camera, place, width, height, sh_degree, antialiased, with_depth)
    scene.check_values()
    if means2d_probe is not None:
        check_tensor("means2d_probe", means2d_probe, (scene.sets, scene.count, 2), means)
    passes = passes_on(means.device)
    colors, alphas, depths, radii = _empty_images(inputs[:6], width, height, with_depth)
    kept = passes.forward(scene, (colors, alphas, depths), radii)
    return colors, alphas, depths, radii, *kept


def _empty_images(
    per_set: Sequence[Tensor | None], width: int, height: int, with_depth: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    means, sets = per_set[0], _set_count(per_set)
    assert means is not None
    return (
        means.new_empty(sets, 3, height, width),
        means.new_empty(sets, height, width),
        means.new_empty(sets, height, width) if with_depth else means.new_empty(0),
        means.new_empty(sets, means.shape[1]),
    )


def _set_count(per_set: Sequence[Tensor | None]) -> int:
    return max(tensor.shape[0] for tensor in per_set if tensor is not None)


@torch.library.register_fake("cocogs::rasterize")
def _(
    means,
    quats,
    scales,
    opacities,
    blur,
    shift,
    sh0,
    shN,
    background,
    means2d_probe,
    camera,
    place,
    width,
    height,
    sh_degree,
    antialiased,
    with_depth,
):
    images = _empty_images((means, quats, scales, opacities, blur, shift), width, height, with_depth)
    state = torch.empty(1, dtype=torch.int64, device="cpu")
    # Their sizes on a GPU depend on the scene.
    size = torch.library.get_ctx().new_dynamic_size if means.device.type == "cuda" else int
    splats, lists = (means.new_empty(size(), dtype=torch.uint8) for _ in range(2))
    return *images, state, splats, lists


@torch_op("cocogs::rasterize_backward")
def rasterize_backward_op(
    state: Tensor,
    splats: Tensor,
    lists: Tensor,
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
    shift: Tensor | None,
    sh0: Tensor,
    shN: Tensor,
    background: Tensor,
    camera: Sequence[float],
    place: Tensor | None,
    width: int,
    height: int,
    sh_degree: int,
    antialiased: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by means, quats, scales, opacities, blur, shift, sh0, shN and the projected means.

    Those that are not `wanted` (nine flags in that order) come back empty. Gradients of inputs that the
    sets share are summed over the sets.

    Args:
        state, splats, lists, colors, alphas, depths: as the forward pass gave them for the same inputs.
        v_colors, v_alphas, v_depths: gradients by the pictures; None for 0.

    Raises:
        ValueError: an input does not fit, or `state` is of a forward pass of other sizes.
        PassTooLarge: there is too little memory for this scene.
    """
    inputs = (means, quats, scales, opacities, blur, shift, sh0, shN, background)
    scene = Pass(*inputs, camera, place, width, height, sh_degree, antialiased, v_depths is not None)
    kept_depths = depths if scene.with_depth or depths.numel() > 0 else None
    pictures = {"colors": colors, "alphas": alphas, "depths": kept_depths}
    pictures |= {"v_colors": v_colors, "v_alphas": v_alphas, "v_depths": v_depths}
    for name, tensor in pictures.items():
        scene.check_picture(name, tensor)
    shapes = scene.gradient_shapes
    if len(wanted) != len(shapes) or (wanted[4] and blur is None) or (wanted[5] and shift is None):
        raise ValueError(f"`wanted` must be {len(shapes)} flags, and none for an input that is None.")
    grads = _empty_gradients(inputs[:8], wanted)
    passes_on(means.device).backward(
        scene,
        (state, splats, lists),
        (colors, alphas, depths),
        (v_colors, v_alphas, v_depths),
        {name: grad if want else None for name, grad, want in zip(shapes, grads, wanted, strict=True)},
    )
    return grads


@torch.library.register_fake("cocogs::rasterize_backward")
def _(
    state,
    splats,
    lists,
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
    shift,
    sh0,
    shN,
    background,
    camera,
    place,
    width,
    height,
    sh_degree,
    antialiased,
    wanted,
):
    return _empty_gradients((means, quats, scales, opacities, blur, shift, sh0, shN), wanted)


def _empty_gradients(
    inputs: Sequence[Tensor | None], wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    means = inputs[0]
    assert means is not None
    shapes = [() if tensor is None else tuple(tensor.shape) for tensor in inputs]
    shapes.append((_set_count(inputs[:6]), means.shape[1], 2))
    m, q, s, o, b, d, h0, hN, m2 = (
        means.new_empty(shape if want else 0) for shape, want in zip(shapes, wanted, strict=True)
    )
    return m, q, s, o, b, d, h0, hN, m2


def _setup_context(ctx, inputs, output):
    *given, _, camera, place, width, height, degree, antialiased, _ = inputs
    colors, alphas, depths, radii, *kept = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(radii, *kept)
    ctx.save_for_backward(*kept, colors, alphas, depths, *given, place)
    ctx.camera, ctx.size, ctx.degree, ctx.antialiased = camera, (width, height), degree, antialiased


@first_derivatives
def _backward(ctx, v_colors, v_alphas, v_depths, *_):
    state, splats, lists, colors, alphas, depths, *inputs, background, place = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [*needs[:8], needs[9]]
    incoming = [None if v is None else v.contiguous() for v in (v_colors, v_alphas, v_depths)]
    if depths.numel() == 0:
        incoming[2] = None
    pictures = (state, splats, lists, colors, alphas, depths)
    view = (ctx.camera, place, *ctx.size, ctx.degree, ctx.antialiased)
    grads = rasterize_backward_op(*pictures, *incoming, *inputs, background, *view, wanted)
    v_inputs = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
    v_background = None
    if needs[8] and v_colors is not None:
        v_background = (v_colors * (1 - alphas)[:, None]).sum((0, 2, 3))
    return (*v_inputs[:8], v_background, v_inputs[8], *[None] * 7)


torch.library.register_autograd("cocogs::rasterize", _backward, setup_context=_setup_context)


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh0: Tensor,
    shN: Tensor,
    camera: Camera,
    blur: Tensor | None,
    shift: Tensor | None,
    sh_degree: int,
    background: Tensor,
    antialiased: bool,
    with_depth: bool,
    means2d_probe: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Renders S sets of N splats, like `cocogs.rasterize.reference.rasterize`. Inputs that the sets share may
    come once, as (1, N, ...).

    Raises:
        RuntimeError: the native module for the tensors' device is missing.
        NotImplementedError: the tensors are neither on a CPU nor on an NVIDIA GPU.
        ValueError: an input does not fit; or the tensors are on a GPU and not float32.
        PassTooLarge: there is too little memory for this scene.
    """
    colors, alphas, depth_sums, radii, *_ = rasterize_op(
        means.contiguous(),
        quats.contiguous(),
        scales.contiguous(),
        opacities.contiguous(),
        None if blur is None else blur.contiguous(),
        None if shift is None else shift.contiguous(),
        sh0.contiguous(),
        shN.contiguous(),
        background.contiguous(),
        means2d_probe,
        camera.numbers,
        camera.place,
        camera.width,
        camera.height,
        sh_degree,
        antialiased,
        with_depth,
    )
    depths = depth_sums / alphas.clamp_min(DEPTH_ALPHA_MIN) if with_depth else None
    return colors, alphas, depths, radii
