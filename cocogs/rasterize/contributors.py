"""Which splats a pixel shows: those that contribute most, and how much. The torch op `cocogs::contributors`.

It has no gradient. For the share that each of all splats has in one sum of pixels, take the gradient of the
sum by their brightness: `cocogs.render.shares`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from cocogs.camera import Camera
from cocogs.plain_torch import torch_op
from cocogs.rasterize import native
from cocogs.rasterize.call import PER_SET, Pass
from cocogs.rasterize.constants import MOST_CONTRIBUTORS


@dataclass(frozen=True)
class Contributors:
    """K splats for each pixel, the one that contributes most first; of equal ones the nearer first.

    Attributes:
        ids: indices of the Gaussians, -1 where a pixel has fewer.
        weights: transmittance x alpha, the share of the splat's colour in the pixel; 0 where the id is -1.
            Over all splats of a pixel they add up to its alpha (`Render.alphas`).
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

    The order is the same with any number of threads, and on a CPU and a GPU as far as rounding does not swap
    two weights.

    Args:
        means, quats, scales, opacities, blur, antialiased: as `rasterize` takes them, of one set.
        count: K, how many splats, 1 to `MOST_CONTRIBUTORS`.

    Raises:
        ValueError: shapes, types or devices do not fit together; `count` is out of range; or, on a CPU,
            scales or blur are negative.
        PassTooLarge: (a ValueError and an `InputError`) there is too little memory for this scene.
        RuntimeError: the native module is missing.
        NotImplementedError: the tensors are neither on a CPU nor on an NVIDIA GPU.
    """
    ids, weights = contributors_op(
        means.detach().contiguous(),
        quats.detach().contiguous(),
        scales.detach().contiguous(),
        opacities.detach().contiguous(),
        None if blur is None else blur.detach().contiguous(),
        camera.numbers,
        camera.place,
        camera.width,
        camera.height,
        antialiased,
        count,
    )
    return Contributors(ids, weights)


@torch_op("cocogs::contributors")
def contributors_op(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    blur: Tensor | None,
    camera: Sequence[float],
    place: Tensor | None,
    width: int,
    height: int,
    antialiased: bool,
    count: int,
) -> tuple[Tensor, Tensor]:
    """`contributors` of contiguous tensors: ids (K, H, W) int32 and weights (K, H, W).

    Args:
        camera: `Camera.numbers`.
        place: see `Pass`.

    Raises:
        ValueError: an input does not fit.
        PassTooLarge: there is too little memory for this scene.
    """
    given = {"means": means, "quats": quats, "scales": scales, "opacities": opacities, "blur": blur}
    for name, tensor in given.items():
        if tensor is not None and tensor.dim() != 1 + len(PER_SET[name]):
            wanted = ", ".join(["N", *map(str, PER_SET[name])])
            raise ValueError(f"{name} must have shape ({wanted}), not {tuple(tensor.shape)}.")
    if not 1 <= count <= MOST_CONTRIBUTORS:
        raise ValueError(f"`count` must lie between 1 and {MOST_CONTRIBUTORS}, not {count}.")
    scene = Pass(
        means[None],
        quats[None],
        scales[None],
        opacities[None],
        None if blur is None else blur[None],
        shift=None,
        sh0=None,
        shN=None,
        background=None,
        camera=camera,
        place=place,
        width=width,
        height=height,
        sh_degree=0,
        antialiased=antialiased,
        with_depth=False,
    )
    scene.check_values()
    ids, weights = _empty(means, width, height, count)
    native.passes_on(means.device).contributors(scene, ids, weights)
    return ids, weights


@torch.library.register_fake("cocogs::contributors")
def _(means, quats, scales, opacities, blur, camera, place, width, height, antialiased, count):
    return _empty(means, width, height, count)


def _empty(means: Tensor, width: int, height: int, count: int) -> tuple[Tensor, Tensor]:
    shape = (count, height, width)
    return means.new_empty(shape, dtype=torch.int32), means.new_empty(shape)
