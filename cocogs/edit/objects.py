"""Whole objects: from masks over photos, or from a click.

Masks say which splats that the photos show belong to the object. What they do not show, its back for example,
is found by a random walk over neighbours: of like colour, and close for their size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.ground import Plane, largest_plane, normals_of, places_of, seen_surface
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, colors_of, extent
from cocogs.render.shares import inside_and_total
from cocogs.render.surface_view import SurfaceView, surface_view

NEIGHBOURS = 12
SURE = 1.0  # px of light from which the vote of a splat counts in full
AROUND = 0.6  # of the object's size: what is farther from its box is not asked
COLOR_SPREAD = 0.15  # sRGB; neighbours that differ by this much count e^(-1/2)
OUTSIDE = 0.05  # trust in that a splat which nobody sees, and no mask covers, is of something else
LONGEST = 480  # px of the longer side of the picture in which a click is understood
PLANES = 3  # floors and walls at most
BRIDGE = 0.005  # of the picture's width; half the width of bridges that are cut
FINEST, COARSEST, LIMITS = 0.0115, 0.05, 13  # of the depth: steps between neighbouring pixels that are tried
SPREAD = 0.3  # of the depth's spread within a pixel, which counts as a step
SMALLEST, LEAP = 0.002, 1.3  # a region of so much of the picture that grows by this factor leaps

Masks = Sequence[tuple[Camera, Float[Tensor, "H W"]]]


@dataclass(frozen=True)
class Votes:
    """How sure it is that splats belong to the object.

    Args:
        share: of their light that falls inside, in [0, 1].
        trust: in [0, 1], against that of a neighbour which is close; 0 where nothing is known.
    """

    share: Float[Tensor, " N"]
    trust: Float[Tensor, " N"]

    @property
    def sure(self) -> Bool[Tensor, " N"]:
        """The splats that surely belong to it."""
        return (self.share > 0.5) & (self.trust > 0.5)


def object_in_masks(gaussians: Gaussians, masks: Masks) -> Bool[Tensor, " N"]:
    """The splats of the object that masks show.

    Args:
        masks: cameras, and how much of each pixel belongs to the object, in [0, 1].

    Raises:
        InputError: the masks hold no splat.
    """
    return completed(gaussians, mask_votes(gaussians, masks))


def mask_votes(gaussians: Gaussians, masks: Masks) -> Votes:
    """Every splat votes with its light: the part of it that falls inside the masks, over all of them."""
    inside, total = inside_and_total(gaussians, masks)
    covered = torch.zeros(len(gaussians), dtype=torch.bool)
    for camera, mask in masks:
        covered |= _covers(camera, mask, gaussians.means.detach().cpu())
    trust = (total / SURE).clamp(max=1)
    return Votes(inside / total.clamp_min(1e-20), torch.where(covered, trust, trust.clamp_min(OUTSIDE)))


def _covers(camera: Camera, mask: Float[Tensor, "H W"], means: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
    """Whether the mask covers the places of splats, seen or hidden."""
    share, _, shown = camera.looked_up(means, mask)
    return shown & (share > 0.5)


def object_at(
    gaussians: Gaussians, cameras: Sequence[Camera], camera: Camera, x: float, y: float
) -> Bool[Tensor, " N"]:
    """The object that is seen at a point of a picture: what hangs together there without a jump of depth,
    once floors and walls are taken away.

    Args:
        cameras: of the photos; they tell what is a floor or a wall.
        x, y: px in the picture of `camera`.

    Raises:
        InputError: nothing is there.
    """
    shrink = camera.shrink_to(LONGEST)
    small = camera.resized_by(shrink)
    view, planes = surface_view(gaussians, small), big_planes(gaussians, cameras)
    return object_in_masks(gaussians, [(small, region_at(view, planes, shrink * x, shrink * y))])


def big_planes(gaussians: Gaussians, cameras: Sequence[Camera]) -> list[Plane]:
    """Floors, tables and walls, the largest first."""
    planes, surface = [], (whole := seen_surface(gaussians, cameras))
    while len(planes) < PLANES and (plane := largest_plane(surface, whole=whole)) is not None:
        planes.append(plane)
        surface = surface.without(plane)
    return planes


def region_at(view: SurfaceView, planes: Sequence[Plane], x: float, y: float) -> Float[Tensor, "H W"]:
    """The pixels around a point that show one thing, 1 inside: what is bordered by steps of depth, and by
    floors and walls; or a floor or wall, if the point lies in one. The largest step that is allowed inside
    grows until the region leaps over to another thing.

    Raises:
        InputError: nothing is there.
    """
    from scipy.ndimage import binary_fill_holes, label  # .3 s to load

    row, column = min(int(y), view.camera.height - 1), min(int(x), view.camera.width - 1)
    free = view.inverse > 0
    if not free[row, column]:
        raise InputError("There is nothing at this point: choose another place.")
    maps = places_of(view.inverse, view.camera), normals_of(view.inverse, view.camera)
    places, normals = (values.flatten(0, 1) for values in maps)
    for plane in planes:
        inside = plane.holds(places, normals).view(free.shape)
        if inside[row, column]:
            parts = np.asarray(label(inside.numpy())[0])  # pyright: ignore[reportIndexIssue]
            part = parts == parts[row, column]
            if part.sum() > SMALLEST * part.size:
                return torch.from_numpy(part).float()
            inside &= ~torch.from_numpy(part)  # a thing that stands in the plane
        free &= ~inside
    region = np.zeros(free.shape, bool)
    for reached in _reached(view, free, row, column):
        wider = _without_bridges(np.asarray(binary_fill_holes(reached)), row, column)
        if region.sum() > SMALLEST * region.size and wider.sum() > LEAP * region.sum():
            break
        region = wider
    return torch.from_numpy(region).float()


def _reached(view: SurfaceView, free: Bool[Tensor, "H W"], row: int, column: int) -> Iterator[np.ndarray]:
    """Regions (H, W) bool: the free pixels that are reached from one by steps of depth up to a limit, for
    larger and larger limits."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    rows, columns, steps = _steps(view, free)
    graph = coo_matrix((steps, (rows, columns)), shape=(free.numel(),) * 2)
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    for limit in np.geomspace(FINEST, COARSEST, LIMITS):
        low = tree.data < limit
        graph = coo_matrix((tree.data[low], (tree.row[low], tree.col[low])), shape=tree.shape)
        labels = connected_components(graph, directed=False)[1].reshape(free.shape)
        yield labels == labels[row, column]


def _steps(view: SurfaceView, free: Bool[Tensor, "H W"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of free neighbouring pixels, and the step of depth between them in parts of it."""
    numbers, inverse = torch.arange(free.numel()).view(free.shape), view.inverse
    pairs, steps, everything, first, last = [], [], slice(None), slice(None, -1), slice(1, None)
    for a, b in (((first, everything), (last, everything)), ((everything, first), (everything, last))):
        both = free[a] & free[b]
        jump = (inverse[a] - inverse[b]).abs() / torch.maximum(inverse[a], inverse[b])
        step = torch.maximum(jump, SPREAD * torch.maximum(view.spread[a], view.spread[b])) + 1e-9
        pairs.append(torch.stack([numbers[a][both], numbers[b][both]]))
        steps.append(step[both])
    rows, columns = torch.cat(pairs, 1).numpy()
    return rows, columns, torch.cat(steps).numpy()


def _without_bridges(region: np.ndarray, row: int, column: int) -> np.ndarray:
    """The part of a region (H, W) around a pixel, once what hangs on by narrow bridges is cut off."""
    from scipy.ndimage import binary_dilation, binary_erosion, label

    width = max(1, round(BRIDGE * region.shape[1]))
    labels = np.asarray(label(binary_erosion(region, iterations=width))[0])  # pyright: ignore[reportIndexIssue]
    rows, columns = labels.nonzero()
    if len(rows) == 0:
        return region
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    part = labels == labels[rows[nearest], columns[nearest]]
    return np.asarray(binary_dilation(part, iterations=width)) & region


def completed(gaussians: Gaussians, votes: Votes) -> Bool[Tensor, " N"]:
    """The object around the splats that votes are sure of.

    Each candidate gets the probability that a walk over neighbours, starting there, ends in a vote for the
    object rather than against it.

    Source: random walks with priors (Grady, 2005; 2006).

    Raises:
        InputError: no splat is sure to belong to the object.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import cg

    sure = votes.sure
    if not sure.any():
        raise InputError("No splat lies there for sure: mark more of the object, or a larger one.")
    near = sure | _in_box_around(gaussians.means.detach().cpu(), sure)
    count, (rows, columns, lengths) = int(near.sum()), neighbours(gaussians, near)
    weights = _closeness(gaussians, near, rows, columns, lengths)
    graph = coo_matrix((weights, (rows, columns)), shape=(count, count)).tocsr()
    graph = graph.maximum(graph.T)
    trust, share = votes.trust[near].double().numpy(), votes.share[near].double().numpy()
    degree = np.asarray(graph.sum(1))[:, 0] + trust + 1e-12
    system = diags(degree) - graph
    probability, _ = cg(system, trust * share, share, rtol=1e-4, maxiter=1000, M=diags(1 / degree))
    result = torch.zeros(len(gaussians), dtype=torch.bool)
    result[near] = torch.from_numpy(probability > 0.5)
    return result


def _in_box_around(means: Float[Tensor, "N 3"], some: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Splats in or near the box around some of them."""
    low, high = extent(means[some])
    margin = AROUND * (high - low).max()
    return ((means >= low - margin) & (means <= high + margin)).all(1)


def neighbours(gaussians: Gaussians, some: Bool[Tensor, " N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of neighbours among some splats, as indices into them, and their distances."""
    from scipy.spatial import KDTree

    places = gaussians.means.detach().cpu()[some].numpy()
    distances, others = KDTree(places).query(places, k=min(NEIGHBOURS + 1, len(places)))
    distances, others = distances.reshape(len(places), -1), others.reshape(len(places), -1)
    rows = np.repeat(np.arange(len(places)), others.shape[1] - 1)
    return rows, others[:, 1:].ravel(), distances[:, 1:].ravel()


def typical_sizes(gaussians: Gaussians) -> np.ndarray:
    """(N,) the middle one of each splat's three standard deviations, scene units."""
    return gaussians.scales.detach().exp().sort(1).values[:, 1].cpu().double().numpy()


def _closeness(
    gaussians: Gaussians, near: Tensor, rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray
):
    """Weights of edges between neighbours, in [0, 1]."""
    if len(lengths) == 0:
        return lengths
    sizes = typical_sizes(gaussians)[near.numpy()]
    colors = colors_of(gaussians).cpu()[near].clamp(0, 1).double().numpy()
    reach = sizes[rows] ** 2 + sizes[columns] ** 2 + np.median(lengths) ** 2
    colored = ((colors[rows] - colors[columns]) ** 2).sum(1) / COLOR_SPREAD**2
    return np.exp(-(lengths**2 / reach + colored) / 2)
