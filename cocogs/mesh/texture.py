"""The texture: baked from the photos, what is in focus counting most; then fitted to the photos through the
camera that took them. Where no photo saw the mesh, it is filled in."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree
from torch import Tensor

from cocogs.mesh.atlas import Atlas
from cocogs.mesh.shots import Shots
from cocogs.plain_torch import Adam
from cocogs.srgb import CLIPPED, to_linear, to_srgb

IN_FOCUS = 1.0  # px of the circle of confusion at which a pixel counts a quarter when the texture is baked
SHARP = 3.0  # px at which it counts half when the texture is fitted, as in training (`OptimConfig.sharp_coc`)
GREY = 0.2  # light at which the camera's gain is measured
RATE, LAST_RATE = 0.03, 0.003  # of Adam, in square roots of light
EPSILON = 1e-2  # of Adam: texels on which hardly a pixel depends stay as they are baked
SEEN = 0.02  # pixels; a texel that fills less than this in all photos counts as unseen
NEIGHBOURS = 4


@dataclass(frozen=True)
class Texture:
    """A finished texture.

    Args:
        pixels: sRGB-encoded.
        invented: share of the mesh's texels that no photo saw.
    """

    pixels: Float[Tensor, "H W 3"]
    invented: float


@torch.no_grad()
def baked(shots: Shots) -> tuple[Float[Tensor, "T 3"], Float[Tensor, " T"]]:
    """Linear light of the texels, the mean of the pixels that show them, and how many pixels did.

    A pixel that is seen at a slant covers more of the surface, so that each texel gets less of it.
    """
    total = torch.zeros(shots.atlas.width * shots.atlas.height, 5)
    for index in range(len(shots)):
        shot = shots[index]
        grey = torch.full_like(shot.photo, GREY)
        light = to_linear(shot.photo) * GREY / to_linear(shots.developed(grey, shot)).clamp_min(1e-6)
        weight = shot.weight * shot.focus(IN_FOCUS).square()
        shot.sampling.spread(torch.cat([light * weight, weight[None], shot.weight[None]]), total)
    return total[:, :3] / total[:, 3:4].clamp_min(1e-9), total[:, 4]


def fitted(
    shots: Shots,
    light: Float[Tensor, "T 3"],
    steps: int,
    seed: int = 0,
    step: Callable[[int], None] = lambda count: None,
) -> Float[Tensor, "T 3"]:
    """Linear light of texels that show the photos when their cameras take them.

    Adam moves the square roots of the light, whose steps look about as large in the dark as in the bright.

    Args:
        light: to start from.
        steps: photos looked at.
        seed: of their order.
        step: called with 1 after each.
    """
    root = light.clamp(0, 1).sqrt().requires_grad_()
    optimizer = Adam([root], lr=RATE, betas=(0.9, 0.99), eps=EPSILON)
    rates = torch.optim.lr_scheduler.ExponentialLR(optimizer, (LAST_RATE / RATE) ** (1 / max(1, steps)))
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(len(shots), generator=generator).tolist()
        shot = shots[order.pop()]
        with torch.enable_grad():
            image = shots.taken(shot, root.square())
            counts = shot.weight * shot.focus(SHARP) * ((shot.photo < CLIPPED) | (image < CLIPPED))
            (root.grad,) = torch.autograd.grad(((image - shot.photo).abs() * counts).sum(), root)
        optimizer.step()
        rates.step()
        with torch.no_grad():
            root.clamp_(0, 1)
        step(1)
    return root.detach().square()


@torch.no_grad()
def finished(atlas: Atlas, light: Float[Tensor, "T 3"], seen: Float[Tensor, " T"]) -> Texture:
    """The texture, filled in: texels that no photo saw from the nearest places in space that one did, and the
    surroundings of the charts from the nearest texel of one.

    Args:
        seen: pixels that show each texel.
    """
    texels = atlas.texels()
    covered = (texels.faces >= 0).flatten()
    known, missing = covered & (seen > SEEN), covered & (seen <= SEEN)
    colors = light.clamp(0, 1)
    if missing.any() and int(known.sum()) >= NEIGHBOURS:
        places = texels.mixed(atlas.mesh.vertices[atlas.mesh.faces]).view(-1, 3)
        _, near = KDTree(places[known].numpy()).query(places[missing].numpy(), k=NEIGHBOURS)
        colors = colors.index_put((missing,), colors[known][torch.from_numpy(near)].mean(1))
    outside = ~covered.view(atlas.height, atlas.width).numpy()
    nearest = np.asarray(distance_transform_edt(outside, return_distances=False, return_indices=True))
    rows, columns = torch.from_numpy(nearest)
    colors = colors.view(atlas.height, atlas.width, 3)[rows, columns]
    return Texture(to_srgb(colors), int(missing.sum()) / max(1, int(covered.sum())))
