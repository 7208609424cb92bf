"""From signed distances to triangles: marching cubes, noise smoothed, small pieces dropped, fewer faces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from torch import Tensor

from cocogs.errors import InputError, optional_package
from cocogs.mesh.fusion import SIDE, Volume, packed

BRICK = 8  # blocks along each side of a part that marching cubes take at once
LEAST_WEIGHT = 0.05  # of all views together, below which a voxel counts as unseen
SMOOTHINGS = 30
LESS, MORE = 0.5, -0.53  # Taubin, A signal processing approach to fair surface design, 1995
SMALL = 0.005  # of the whole area: smaller pieces are dropped
WELD = 1024  # vertices closer together than 1 / this of a voxel are one


@dataclass(frozen=True)
class Mesh:
    """Triangles, anticlockwise as seen from the side of the cameras; scene units."""

    vertices: Float[Tensor, "V 3"]
    faces: Int64[Tensor, "F 3"]


def mesh_of(volume: Volume, faces: int, wanted: Callable[[Float[Tensor, "P 3"]], Bool[Tensor, " P"]]) -> Mesh:
    """The surface in a volume, with at most about so many faces.

    Args:
        wanted: which world points are to be part of it.

    Raises:
        InputError: there is none.
    """
    points, corners = _triangles(volume)
    inside = wanted(torch.from_numpy(points * volume.voxel).float()).numpy()
    points, corners = without_small_pieces(points, corners[inside[corners].all(1)])
    if len(corners) == 0:
        raise InputError("The views show no surface that they agree on: train longer, or widen `crop`.")
    points = smoothed(points, corners)
    if len(corners) > faces:
        points, corners = simplified(points, corners, faces)
    vertices = torch.from_numpy(points * volume.voxel).float()
    return Mesh(vertices, torch.from_numpy(corners.astype(np.int64)))


def simplifier():
    """The package's function.

    Raises:
        InputError: the package is missing.
    """
    return package_of_meshes("fast_simplification", "fast-simplification").simplify


def package_of_meshes(module: str, package: str) -> Any:
    """Raises InputError if it is missing."""
    return optional_package(module, f"Meshes need the package {package}: run `pip install 'cocogs[mesh]'`.")


def simplified(
    points: Float[np.ndarray, "V 3"], corners: Int64[np.ndarray, "F 3"], faces: int
) -> tuple[Float[np.ndarray, "W 3"], Int64[np.ndarray, "G 3"]]:
    """Fewer triangles with nearly the same shape (Garland and Heckbert, quadric error metrics, 1997)."""
    fewer = simplifier()(points, corners, target_count=faces)
    return without_unused(fewer[0].astype(np.float64), _whole(fewer[1].astype(np.int64)))


def smoothed(points: Float[np.ndarray, "V 3"], corners: Int64[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Without the noise of single vertices; Taubin's two steps keep the volume."""
    near = _neighbours(corners, len(points))
    near = diags_array(1 / np.maximum(near.sum(1), 1)) @ near
    for _ in range(SMOOTHINGS):
        for share in (LESS, MORE):
            points = points + share * (near @ points - points)
    return points


def without_small_pieces(
    points: Float[np.ndarray, "V 3"], corners: Int64[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int64[np.ndarray, "G 3"]]:
    """Without pieces of the surface whose area is less than `SMALL` of the whole."""
    if len(corners) == 0:
        return points[:0], corners
    count, piece = connected_components(_neighbours(corners, len(points)), directed=False)
    triangle = points[corners]
    across = np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    areas = np.linalg.norm(across, axis=1)
    of_piece = piece[corners[:, 0]]
    total = np.bincount(of_piece, areas, minlength=count)
    return without_unused(points, corners[total[of_piece] >= SMALL * areas.sum()])


def without_unused(
    points: Float[np.ndarray, "V 3"], corners: Int64[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int64[np.ndarray, "F 3"]]:
    """Without vertices that no triangle has."""
    used, numbers = np.unique(corners, return_inverse=True)
    return points[used], numbers.reshape(-1, 3)


def _neighbours(corners: Int64[np.ndarray, "F 3"], count: int) -> csr_array:
    """1 where an edge joins two vertices."""
    ends = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    matrix = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    matrix.data[:] = 1
    return matrix


def _triangles(volume: Volume) -> tuple[Float[np.ndarray, "V 3"], Int64[np.ndarray, "F 3"]]:
    """The surface in units of voxels: brick by brick, neighbours overlapping by a layer of voxels."""
    keys, order = packed(volume.blocks).sort()
    points, corners, count = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for brick in volume.blocks.div(BRICK, rounding_mode="floor").unique(dim=0):
        distance, known = _dense(volume, keys, order, brick * BRICK)
        cells = _whole_cells(known)
        if not cells.any() or not distance[known].min() < 0 < distance[known].max():
            continue
        try:
            found, faces, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent", mask=cells)
        except (ValueError, RuntimeError):  # no surface within the mask
            continue
        points.append(found.astype(np.float64) + 0.5 + (brick * BRICK * SIDE).numpy())
        corners.append(faces.astype(np.int64) + count)
        count += len(found)
    return _welded(np.concatenate(points), np.concatenate(corners))


def _dense(
    volume: Volume, keys: Int64[Tensor, " B"], order: Int64[Tensor, " B"], first: Int64[Tensor, "3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and whether they are known, of a cube of blocks from `first` on, one layer of voxels larger.

    Args:
        keys: `packed` numbers of the blocks, sorted by `order`.
    """
    axis = torch.arange(BRICK + 1)
    inside = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    wanted = packed(first + inside)
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    there = keys[place] == wanted
    distance = np.ones([(BRICK + 1) * SIDE] * 3, np.float32)
    known = np.zeros_like(distance, dtype=bool)
    for block, number in zip((inside[there] * SIDE).tolist(), order[place[there]].tolist(), strict=True):
        where = tuple(slice(start, start + SIDE) for start in block)
        distance[where] = volume.distance[number].view(SIDE, SIDE, SIDE).numpy()
        known[where] = volume.weight[number].view(SIDE, SIDE, SIDE).numpy() > LEAST_WEIGHT
    end = BRICK * SIDE + 1
    return distance[:end, :end, :end], known[:end, :end, :end]


def _whole_cells(known: np.ndarray) -> np.ndarray:
    """Mask for marching cubes: at the last corner of every cell of which all eight corners are known."""
    size = len(known) - 1
    mask = np.zeros_like(known)
    mask[1:, 1:, 1:] = True
    for step in np.ndindex(2, 2, 2):
        mask[1:, 1:, 1:] &= known[tuple(slice(start, start + size) for start in step)]
    return mask


def _welded(
    points: Float[np.ndarray, "V 3"], corners: Int64[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int64[np.ndarray, "G 3"]]:
    """One vertex for those that bricks share."""
    _, first, number = np.unique(np.round(points * WELD), axis=0, return_index=True, return_inverse=True)
    return points[first], _whole(number.reshape(-1)[corners])


def _whole(corners: Int64[np.ndarray, "F 3"]) -> Int64[np.ndarray, "G 3"]:
    """Triangles with three different corners."""
    a, b, c = corners.T
    return corners[(a != b) & (b != c) & (c != a)]
