"""Many views of a surface become one: a truncated signed distance on voxels near the surface (Curless and
Levoy 1996), kept in blocks of 8 x 8 x 8, so that empty space takes no memory."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cocogs.render.surface_view import SurfaceView

SIDE = 8  # voxels of a block
MOST_BLOCKS = 40_000  # 20 million voxels, 160 MB; where more are needed, voxels become larger
GROWTH = 1.2  # of the voxels, at each try
BAND = 4.0  # voxels on each side of the surface that are kept
SURE = 0.03  # spread of a view (see `SurfaceView`) at which it counts a quarter
GRAZING = 0.1  # cosine of the angle between ray and normal at which a view still tells something
KEYS = 1 << 20  # blocks along an axis, both directions together
AT_ONCE = 512  # blocks


class Volume:
    """The signed distance, positive in front of the surface, in parts of the band, where it is known.

    Args:
        voxel: its side, scene units.
        blocks: integer coordinates of the blocks that are kept; block (0, 0, 0) begins at the origin.
    """

    def __init__(self, voxel: float, blocks: Int64[Tensor, "B 3"]) -> None:
        self.voxel, self.blocks = voxel, blocks
        self.distance = torch.zeros(len(blocks), SIDE**3, device=blocks.device)
        self.weight = torch.zeros_like(self.distance)
        axis = torch.arange(SIDE, device=blocks.device)
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
        self._centers = (grid + 0.5) * voxel  # of the voxels of a block from its corner

    def add(self, view: SurfaceView) -> None:
        """Take in what one view tells of the voxels that it sees."""
        camera, told = view.camera, _Told(view, BAND * self.voxel)
        turn = camera.cam_from_world.to(self._centers)[:3, :3]
        x, y, z = (self._centers @ turn.T).T
        for some in self._near(view).split(AT_ONCE):
            corners = camera.local(self.blocks[some].float() * (SIDE * self.voxel))
            distance, weight = told.of(*(c[:, None] + to for c, to in zip(corners.T, (x, y, z), strict=True)))
            before = self.distance[some]
            total = self.weight[some] + weight
            self.distance[some] = before + weight / total.clamp_min(1e-20) * (distance - before)
            self.weight[some] = total

    def _near(self, view: SurfaceView) -> Int64[Tensor, " K"]:
        """Blocks that lie within the picture and not behind all that it shows around them."""
        camera, size = view.camera, SIDE * self.voxel
        radius = size * math.sqrt(3) / 2
        pixels, depths = camera.project((self.blocks.float() + 0.5) * size)
        margin = radius * camera.fx / depths.clamp_min(radius)
        x, y = pixels.unbind(1)
        inside = (x > -margin) & (x < camera.width + margin) & (y > -margin) & (y < camera.height + margin)
        inside &= depths > radius
        # How far it can be seen, around each pixel, as far as a block of typical depth reaches.
        far = torch.where(view.known, 1 / view.inverse.clamp_min(1e-20), 0)
        reach = 2 * int(margin[inside].quantile(0.9)) + 1 if inside.any() else 1
        far = F.max_pool2d(far[None], reach, 1, reach // 2)[0]
        column, row = x.long().clamp(0, camera.width - 1), y.long().clamp(0, camera.height - 1)
        return (inside & (depths < far[row, column] + radius + BAND * self.voxel)).nonzero()[:, 0]


class _Told:
    """What a view tells of points, given in its camera's coordinates.

    Args:
        band: scene units.
    """

    def __init__(self, view: SurfaceView, band: float) -> None:
        self.camera = view.camera
        length, inverse = view.planes.norm(dim=0).clamp_min(1e-20), view.inverse
        cosine = inverse / (length * view.rays.norm(dim=0))
        sure = view.known & (cosine > GRAZING)
        weight = torch.where(sure, (SURE / (SURE + view.spread) * cosine).square(), 0)
        # Along a ray that grazes a ball, the band behind its tangent plane would reach out of the ball again.
        last = 1 / inverse.clamp_min(1e-20) + band
        rows = [*(view.planes / (length * band)), 1 / (length * band), weight, last]
        self.table = torch.stack(rows, -1).view(-1, len(rows))

    def of(
        self, x: Float[Tensor, "K P"], y: Float[Tensor, "K P"], z: Float[Tensor, "K P"]
    ) -> tuple[Float[Tensor, "K P"], Float[Tensor, "K P"]]:
        """Signed distances from the surface seen in the points' pixels, in parts of the band and at most 1,
        and how much they count: nothing behind the band."""
        camera = self.camera
        column = (x / z * camera.fx + camera.cx).nan_to_num(-1).clamp(-1, camera.width).floor().int()
        row = (y / z * camera.fy + camera.cy).nan_to_num(-1).clamp(-1, camera.height).floor().int()
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        inside &= z > camera.near
        a, b, c, d, weight, last = self.table[torch.where(inside, row * camera.width + column, 0)].unbind(-1)
        distance = d - a * x - b * y - c * z
        return distance.clamp(-1, 1), weight * (inside & (distance > -1) & (z < last))


def fuse(
    views: Sequence[SurfaceView],
    voxel: float,
    wanted: Callable[[Float[Tensor, "P 3"]], Bool[Tensor, " P"]],
    step: Callable[[int], None] = lambda count: None,
) -> Volume:
    """All views in one volume.

    Args:
        voxel: its side, scene units; larger ones are taken where there would be too many.
        wanted: which world points are to be part of it.
        step: called with 1 after each view.
    """
    points = torch.cat([surface_points(view) for view in views])
    points = points[wanted(points)]
    while len(blocks := _blocks_near(points, voxel)) > MOST_BLOCKS:
        voxel *= GROWTH
    volume = Volume(voxel, blocks)
    for view in views:
        volume.add(view)
        step(1)
    return volume


def surface_points(view: SurfaceView) -> Float[Tensor, "P 3"]:
    """World points of the surface, where a view tells of it."""
    local = (view.rays / view.inverse)[:, view.known].T
    pose = view.camera.cam_from_world.to(local)
    return (local - pose[:3, 3]) @ pose[:3, :3]


def _blocks_near(points: Float[Tensor, "P 3"], voxel: float) -> Int64[Tensor, "B 3"]:
    """Blocks that lie within the band around a point, by cells of a quarter of a block."""
    quarters = unpacked(packed((points / (SIDE / 4 * voxel)).floor().long()).unique())
    reach = math.ceil(BAND * 4 / SIDE)
    found = quarters.new_zeros(0)
    for step in itertools.product((-reach, 0, reach), repeat=3):
        blocks = (quarters + quarters.new_tensor(step)).div(4, rounding_mode="floor")
        found = torch.cat([found, packed(blocks)]).unique()
    return unpacked(found)


def packed(blocks: Int64[Tensor, "B 3"]) -> Int64[Tensor, " B"]:
    """One number for each block, in their order."""
    x, y, z = (blocks + KEYS // 2).clamp(0, KEYS - 1).unbind(1)
    return (x * KEYS + y) * KEYS + z


def unpacked(keys: Int64[Tensor, " B"]) -> Int64[Tensor, "B 3"]:
    return torch.stack([keys // KEYS**2, keys // KEYS % KEYS, keys % KEYS], 1) - KEYS // 2
