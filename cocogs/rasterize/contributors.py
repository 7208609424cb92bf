"""Which splats a pixel shows: those that contribute most, and how much, as the torch op `cocogs::contributors`.

Selecting by a click or a mask rests on it. It has no gradient: whoever wants the shares of all splats in one
number, say in the light inside a mask, takes the gradient of that number by `sh0` (`rasterize`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from cocogs.camera import Camera
from cocogs.rasterize import native
from cocogs.rasterize.call import PER_SET, Pass
from cocogs.rasterize.constants import MOST_CONTRIBUTORS


@dataclass(frozen=True)
class Contributors:
    """K splats for each pixel, the one that contributes most first; of equal ones the nearer first.

    Attributes:
        ids: indices of the Gaussians, -1 where a pixel has fewer.
        weights: transmittance x alpha, the share of the splat's colour in the pixel; 0 where the id is -1. Over all
            splats of a pixel they add up to its alpha (`Render.alphas`).
    """

    ids: Int32[Tensor, "K H W"]
    weights: Float[Tensor, "K H W"]


def contributors(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    camera: Camera,
    *,
    count: int = 8,
    blur: Float[Tensor, " N"] | None = None,
    antialiased: bool = False,
) -> Contributors:
    """The splats that contribute most to each pixel of `rasterize`'s picture of the same Gaussians.

    On a CPU and on a GPU, with any number of threads, the same splats come in the same order, as far as rounding
    lets weights differ.

    Args:
        means, quats, scales, opacities, blur, antialiased: as `rasterize` takes them, of one set.
        count: K, how many splats, 1 to `MOST_CONTRIBUTORS`.

    Raises:
        ValueError: shapes, types or devices do not fit together; `count` is out of range; or, on a CPU, scales
            or blur are negative.
        PassTooLarge: (a ValueError and an `InputError`) there is too little memory for this scene.
        RuntimeError: the native module is missing.
        NotImplementedError: the tensors are neither on a CPU nor on an NVIDIA GPU.
    """
    tensors = (None if t is None else t.detach().contiguous() for t in (means, quats, scales, opacities, blur))
    view = camera.numbers, camera.width, camera.height
    return Contributors(*contributors_op(*tensors, *view, antialiased, count))


@torch.library.custom_op("cocogs::contributors", mutates_args=())
def contributors_op(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    camera: Sequence[float],
    width: int,
    height: int,
    antialiased: bool,
    count: int,
) -> tuple[Tensor, Tensor]:
    """`contributors` of contiguous tensors: ids (K, H, W) int32 and weights (K, H, W).

    Args:
        camera: `Camera.numbers`.

    Raises:
        ValueError: an input does not fit.
        PassTooLarge: there is too little memory for this scene.
    """
    given = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "blur": blur}
    for name, tensor in given.items():
        if tensor is not None and tensor.dim() != 1 + len(PER_SET[name]):
            raise ValueError(f"{name} must be of one set of Gaussians, but the shape is {tuple(tensor.shape)}.")
    if not 1 <= count <= MOST_CONTRIBUTORS:
        raise ValueError(f"`count` must lie between 1 and {MOST_CONTRIBUTORS}, not {count}.")
    one_set = {name: None if tensor is None else tensor[None] for name, tensor in given.items()}
    no_colors = {"sh0": None, "shN": None, "background": None, "sh_degree": 0, "with_depth": False}
    scene = Pass(**one_set, **no_colors, camera=camera, width=width, height=height, antialiased=antialiased)
    scene.check_values()
    ids, weights = _empty(means, width, height, count)
    native.passes_on(means.device).contributors(scene, ids, weights)
    return ids, weights


@contributors_op.register_fake
def _(means, quats, scales, opacities, blur, camera, width, height, antialiased, count):
    return _empty(means, width, height, count)


def _empty(means: Tensor, width: int, height: int, count: int) -> tuple[Tensor, Tensor]:
    shape = (count, height, width)
    return means.new_empty(shape, dtype=torch.int32), means.new_empty(shape)
