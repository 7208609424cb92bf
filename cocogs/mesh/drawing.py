"""Triangles onto pixels, without gradients: which one each pixel shows, and where in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.camera import Camera

CANDIDATES = 1 << 21  # pairs of a triangle and a pixel that are looked at together; some 200 bytes each
NOTHING = 2**63 - 1


@dataclass(frozen=True)
class Drawing:
    """What a picture shows of a mesh.

    Args:
        faces: numbers of the triangles, -1 where there is none.
        weights: of the triangle's three corners at the pixel's centre, sum 1; 0 where there is none.
        depth: z-depth, scene units; infinite where there is none.
    """

    faces: Int64[Tensor, "H W"]
    weights: Float[Tensor, "H W 3"]
    depth: Float[Tensor, "H W"]

    def mixed(self, of_corners: Float[Tensor, "F 3 C"]) -> Float[Tensor, "H W C"]:
        """Values of the corners of the triangles, interpolated; 0 where there is none."""
        return (of_corners[self.faces.clamp_min(0)] * self.weights[..., None]).sum(-2)


def draw(vertices: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"], camera: Camera) -> Drawing:
    """The mesh as the camera sees it, both sides of every triangle; what is nearer hides what is farther.

    Args:
        vertices: in the world, scene units.
    """
    flat = camera.local(vertices.double()) @ camera.intrinsics.to(vertices.device).double().T
    return draw_flat(flat, faces, camera.width, camera.height, camera.near)


def draw_flat(
    flat: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"], width: int, height: int, near: float
) -> Drawing:
    """The same from homogeneous pixel positions (x z, y z, z).

    Three functions of the pixel, linear in x and y, are the corners' weights over z (Olano and Greer,
    Triangle scan conversion using 2D homogeneous coordinates, 1997); no triangle has to be cut where it
    passes the camera.
    """
    corners = flat.double()[faces]
    edges = _edge_functions(corners)
    boxes = _boxes(corners, width, height, near)
    counts = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) * edges.isfinite().all(-1).all(-1)
    nearest = torch.full((height * width,), NOTHING, device=flat.device)
    seen = counts.nonzero()[:, 0]
    ends = counts[seen].cumsum(0)
    for part in _parts(ends):
        _draw_some(seen[part], boxes, counts, edges, near, width, nearest)
    face = torch.where(nearest == NOTHING, -1, nearest & 0xFFFFFFFF).view(height, width)
    return _finished(face, edges)


def _parts(ends: Int64[Tensor, " S"]) -> list[slice]:
    """Runs of triangles with at most `CANDIDATES` pixels, or of one."""
    parts, start, done = [], 0, 0
    while start < len(ends):
        limit = torch.tensor(done + CANDIDATES, device=ends.device)
        stop = max(start + 1, int(torch.searchsorted(ends, limit, right=True)))
        parts.append(slice(start, stop))
        start, done = stop, int(ends[stop - 1])
    return parts


def _draw_some(
    which: Int64[Tensor, " S"],
    boxes: Int64[Tensor, "F 4"],
    counts: Int64[Tensor, " F"],
    edges: Float[Tensor, "F 3 3"],
    near: float,
    width: int,
    nearest: Int64[Tensor, " P"],
) -> None:
    """Lower `nearest` (depth's bits and the face, one number for each pixel) to what some triangles show."""
    count = counts[which]
    face = which.repeat_interleave(count)
    number = torch.arange(len(face), device=face.device)
    number -= (count.cumsum(0) - count).repeat_interleave(count)
    box = boxes[face]
    columns = box[:, 2] - box[:, 0]
    x, y = box[:, 0] + number % columns, box[:, 1] + number // columns
    over_z = edges[face, :, 0] * (x + 0.5)[:, None] + edges[face, :, 1] * (y + 0.5)[:, None]
    over_z += edges[face, :, 2]
    inverse = over_z.sum(1)
    met = (over_z >= 0).all(1) & (inverse > 0) & (inverse * near < 1)
    bits = (1 / inverse[met]).float().view(torch.int32).long()
    nearest.scatter_reduce_(0, (y * width + x)[met], bits << 32 | face[met], "amin")


def _finished(face: Int64[Tensor, "H W"], edges: Float[Tensor, "F 3 3"]) -> Drawing:
    height, width = face.shape
    device = face.device
    x = torch.arange(width, device=device).double() + 0.5
    y = torch.arange(height, device=device).double()[:, None] + 0.5
    mine = edges[face.clamp_min(0)] if len(edges) else edges.new_zeros(height, width, 3, 3)
    over_z = mine[..., 0] * x[..., None] + mine[..., 1] * y[..., None] + mine[..., 2]
    inverse, there = over_z.sum(-1), face >= 0
    weights = torch.where(there[..., None], over_z / inverse[..., None], 0).float()
    return Drawing(face, weights, torch.where(there, 1 / inverse, torch.inf).float())


def _edge_functions(corners: Float[Tensor, "F 3 3"]) -> Float[Tensor, "F 3 3"]:
    """Rows (a, b, c) of each corner: a x + b y + c is its weight over z. Not finite for a triangle that is
    seen from its edge."""
    a, b, c = corners.unbind(1)
    rows = [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    determinant = (a * rows[0]).sum(1)
    return torch.stack(rows, 1) / determinant[:, None, None]


def _boxes(corners: Float[Tensor, "F 3 3"], width: int, height: int, near: float) -> Int64[Tensor, "F 4"]:
    """First column and row, and those behind the last, of the pixels that a triangle may cover; no pixels for
    a triangle that is nowhere in front of the camera."""
    following = corners.roll(-1, 1)
    z, z_next = corners[..., 2:], following[..., 2:]
    crossing = (z - near) * (z_next - near) < 0
    share = torch.where(crossing, (near - z) / torch.where(crossing, z_next - z, 1), 0)
    cut = torch.where(crossing, corners + share * (following - corners), corners)
    points = torch.cat([corners, cut], 1)
    there = points[..., 2] >= near * (1 - 1e-9)
    places = points[..., :2] / torch.where(there, points[..., 2], 1)[..., None]
    limit = places.new_tensor([width, height]).double()
    low = torch.where(there[..., None], places, torch.inf).amin(1)
    high = torch.where(there[..., None], places, -torch.inf).amax(1)
    # The pixels whose centre lies inside; all corners behind: low is infinite, and the box is empty.
    first = (low - 0.5).ceil().clamp_min(0).minimum(limit)
    end = ((high - 0.5).floor() + 1).clamp_min(0).minimum(limit)
    return torch.cat([first, end], 1).long()
