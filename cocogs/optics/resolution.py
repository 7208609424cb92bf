"""How fine a detail the photos can tell: what even the sharpest photo of a place blurs away is in none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocogs.camera import Camera
from cocogs.optics.lens import PhotoLens, blur_variance, coc_diameter
from cocogs.rasterize.constants import PIXEL_VARIANCE

MOST_LOOPED = 150  # photos; more of them are sorted out block by block
BLOCK, MOST_BLOCKS = 256, 1024  # places in a block at least, while there are no more blocks than that
AT_A_TIME = 4  # photos that a block is compared with before asking whether the rest can be any sharper


@torch.no_grad()
def least_blur(
    means: Float[Tensor, "N 3"], cameras: Sequence[Camera], lenses: Sequence[PhotoLens]
) -> Float[Tensor, " N"]:
    """Standard deviation, in scene units, of the blur that the sharpest photo of each place has there: by its
    lens, by its softness and by its pixels.

    A photo counts for the places inside its picture, hidden ones too. 0 where no photo looks.

    Args:
        means: the places.
        cameras, lenses: of the photos.
    """
    if len(cameras) > MOST_LOOPED:
        return _least_blur_by_blocks(means, cameras, lenses)
    least = torch.full_like(means[:, 0], math.inf)
    for camera, lens in zip(cameras, lenses, strict=True):
        pixels, z = camera.project(means)
        seen = (z > camera.near) & camera.shows(pixels)
        variance = blur_variance(lens.coc(z)) + lens.softness + PIXEL_VARIANCE
        blur = variance.sqrt() * z / camera.fx
        least = torch.where(seen & (blur < least), blur, least)
    return torch.where(least.isfinite(), least, 0)


def _least_blur_by_blocks(
    means: Float[Tensor, "N 3"], cameras: Sequence[Camera], lenses: Sequence[PhotoLens]
) -> Float[Tensor, " N"]:
    """The same for many photos, most of which show a place less sharply than others or not at all.

    Places are sorted into blocks of neighbours. A block is compared with one photo after another, in the
    order of how sharp each can be there at best, until no further photo can be sharper anywhere in it.
    """
    blocks = _blocks(means)
    photos, places = _Photos.of(cameras, lenses, means), means[blocks]
    least = torch.full(blocks.shape, math.inf).to(means)
    best, order = photos.best_blur(places).sort(1)
    open_ones = torch.arange(len(blocks), device=means.device)
    for start in range(0, len(cameras), AT_A_TIME):
        open_ones = open_ones[best[open_ones, start] < least[open_ones].amax(1)]
        if len(open_ones) == 0:
            break
        now, here = least[open_ones], places[open_ones]
        for photo in order[open_ones, start : start + AT_A_TIME].unbind(1):
            now = torch.minimum(now, photos.pick(photo).blur(here))
        least[open_ones] = now
    blur = torch.full_like(means[:, 0], math.inf)
    blur.scatter_reduce_(0, blocks.flatten(), least.flatten(), "amin")
    return torch.where(blur.isfinite(), blur, 0)


def _blocks(places: Float[Tensor, "N 3"]) -> Int[Tensor, "B M"]:
    """Numbers of the places by blocks of neighbours: halved by one coordinate after another. To fill them up
    the last place may occur several times."""
    halvings = max(0, math.floor(math.log2(min(len(places) / BLOCK, MOST_BLOCKS))))
    filled = math.ceil(len(places) / 2**halvings) * 2**halvings
    blocks = torch.arange(filled, device=places.device).clamp_max(len(places) - 1)[None]
    for halving in range(halvings):
        sorted_out = places[blocks][..., halving % 3].argsort(1)
        blocks = blocks.gather(1, sorted_out).view(2 * len(blocks), -1)
    return blocks


@dataclass(frozen=True)
class _Photos:
    """Cameras and lenses of V photos as tensors.

    poses: (V, 3, 4); views: (V, 7), fx, fy, cx, cy, width, height and near; lenses: (V, 3), focus distance, K
    and softness.
    """

    poses: Tensor
    views: Tensor
    lenses: Tensor

    @classmethod
    def of(cls, cameras: Sequence[Camera], lenses: Sequence[PhotoLens], like: Tensor) -> "_Photos":
        views = [(c.fx, c.fy, c.cx, c.cy, c.width, c.height, c.near) for c in cameras]
        parts = [(lens.focus_distance, lens.K, torch.as_tensor(lens.softness)) for lens in lenses]
        columns = [torch.stack(column).to(like) for column in zip(*parts, strict=True)]
        poses = torch.stack([camera.cam_from_world[:3] for camera in cameras]).to(like)
        return cls(poses, like.new_tensor(views), torch.stack(columns, 1))

    def pick(self, which: Int[Tensor, " B"]) -> "_Photos":
        return _Photos(self.poses[which], self.views[which], self.lenses[which])

    def blur(self, places: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M"]:
        """Of each photo at places of its own, as in `least_blur`; infinite outside its picture."""
        x, y, z = torch.baddbmm(self.poses[:, :, 3:], self.poses[:, :, :3], places.mT).unbind(1)
        fx, fy, cx, cy, width, height, near = self.views[:, :, None].unbind(1)
        u, v = fx * x / z + cx, fy * y / z + cy
        seen = (z > near) & (u > 0) & (u < width) & (v > 0) & (v < height)
        return torch.where(seen, self._deviation(z) * z / fx, math.inf)

    def best_blur(self, blocks: Float[Tensor, "B M 3"]) -> Float[Tensor, "B V"]:
        """What each photo's blur in each block is not below; infinite where it cannot show any of it."""
        centre = blocks.mean(1)
        radius = (blocks - centre[:, None]).norm(dim=-1).amax(1)
        x, y, z = (self.poses[:, :, :3] @ centre.T + self.poses[:, :, 3:]).unbind(1)
        fx, fy, cx, cy, width, height, near = self.views[:, :, None].unbind(1)
        outside = z + radius <= near
        for focal, across, middle, size in ((fx, x, cx, width), (fy, y, cy, height)):
            for plane, sign in (
                (middle, 1),
                (size - middle, -1),
            ):  # u > 0 and u < width, by the sphere around it
                outside |= (sign * focal * across + plane * z) / (focal**2 + plane**2).sqrt() < -radius
        nearest, farthest = torch.maximum(z - radius, near), torch.maximum(z + radius, near)
        sharpest = torch.minimum(torch.maximum(self.lenses[:, :1], nearest), farthest)
        blur = 0.999 * self._deviation(sharpest) * nearest / fx  # a little less, for rounding
        return torch.where(outside, math.inf, blur).T

    def _deviation(self, z: Float[Tensor, "V M"]) -> Float[Tensor, "V M"]:
        """Standard deviation in px of each photo's blur at depths z."""
        focus_distance, K, softness = self.lenses[:, :, None].unbind(1)
        return (blur_variance(coc_diameter(z, focus_distance, K)) + softness + PIXEL_VARIANCE).sqrt()
