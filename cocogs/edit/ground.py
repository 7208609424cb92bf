"""The planes of a scene: what things stand on, floors, walls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.edit.subject import Subject
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.render.refocusing import sharp_depth
from cocogs.render.surface_view import rays
from cocogs.spread import some_of

VIEWS, GLANCE = 8, 96  # photos that are looked from, and the width of these small pictures in px
TRIES, JUDGES, REFINEMENTS = 1000, 2000, 5  # planes at points, judged by some of the points
SMOOTH = 1.0  # px, over which slopes are taken
THICKNESS = 0.01  # how far from the plane a point of it may lie, in parts of the typical depth
ALIGNED = math.cos(math.radians(30))  # of the normals of a plane and of the surface at its points
STEEPEST = math.cos(math.radians(50))  # of a level plane's normal and the cameras' upward direction
LEAST = 0.06  # of all points must lie in a plane


@dataclass(frozen=True)
class Surface:
    """Points on what photos show, evenly over the pixels.

    Args:
        normals: of the surface there, length 1.
        depth: typical distance from the cameras, scene units.
    """

    points: Float[Tensor, "P 3"]
    normals: Float[Tensor, "P 3"]
    depth: float

    def without(self, plane: "Plane") -> "Surface":
        rest = ~plane.holds(self.points, self.normals)
        return Surface(self.points[rest], self.normals[rest], self.depth)


@dataclass(frozen=True)
class Plane:
    """normal . x = offset.

    Args:
        normal: length 1; upwards if the plane is level.
        thickness: scene units; how far a point of it may lie off.
    """

    normal: Float[Tensor, "3"]
    offset: float
    thickness: float

    def heights(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, " *P"]:
        """Above the plane, scene units."""
        return points @ self.normal.to(points) - self.offset

    def holds(self, points: Float[Tensor, "P 3"], normals: Float[Tensor, "P 3"]) -> Bool[Tensor, " P"]:
        """Which points lie in it, with a surface along it."""
        aligned = (normals @ self.normal.to(normals)).abs() > ALIGNED
        return (self.heights(points).abs() < self.thickness) & aligned

    def splats(self, gaussians: Gaussians) -> Bool[Tensor, " N"]:
        """Which splats make it."""
        return (self.heights(gaussians.means.detach()).abs() < self.thickness).cpu()


def find_ground(subject: Subject) -> Plane:
    """The plane with the most of what the photos show, among those that are level by the cameras.

    Raises:
        InputError: there is none.
    """
    plane = largest_plane(seen_surface(subject.gaussians, subject.cameras), subject.up)
    if plane is None:
        raise InputError(
            f"No level plane is found in {subject.target}: do without `height` and without `up=ground`."
        )
    return plane


def seen_surface(gaussians: Gaussians, cameras: Sequence[Camera]) -> Surface:
    """What some of the photos show."""
    points, normals, depths = [torch.zeros(0, 3)], [torch.zeros(0, 3)], [torch.zeros(0)]
    for camera in some_of(cameras, VIEWS):
        glance = camera.resized(GLANCE, max(1, round(GLANCE * camera.height / camera.width)))
        inverse = 1 / sharp_depth(gaussians, glance)
        known = inverse > 0
        points.append(places_of(inverse, glance)[known])
        normals.append(normals_of(inverse, glance)[known])
        depths.append(1 / inverse[known])
    typical = torch.cat(depths)
    return Surface(torch.cat(points), torch.cat(normals), float(typical.median()) if len(typical) else 1.0)


def places_of(inverse: Float[Tensor, "H W"], camera: Camera) -> Float[Tensor, "H W 3"]:
    """World points of the surface in each pixel, from its 1/z; the camera's own where nothing is."""
    depth = torch.where(inverse > 0, 1 / inverse, 0)
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    return camera.unproject(torch.stack([columns, rows], -1) + 0.5, depth)


def normals_of(inverse: Float[Tensor, "H W"], camera: Camera) -> Float[Tensor, "H W 3"]:
    """Normals of the surface in the world, length 1, away from the camera; 0 where nothing is. They come from
    the slopes of 1/z, which is linear over the pixels of a plane."""
    from scipy.ndimage import gaussian_filter  # .3 s to load

    known = inverse.numpy()
    orders: list[Any] = [(0, 1), (1, 0)]  # scipy says that it takes one number
    slopes = [gaussian_filter(known, SMOOTH, order=order) for order in orders]
    across, down = (torch.from_numpy(np.asarray(slope)) for slope in slopes)
    q = torch.stack([across * camera.fx, down * camera.fy])
    q = torch.cat([q, (inverse - (q * rays(camera)[:2]).sum(0))[None]])
    q = torch.where(inverse > 0, F.normalize(q, dim=0), 0)
    return torch.einsum("ij,ihw->hwj", camera.cam_from_world[:3, :3].to(q), q)


def largest_plane(
    surface: Surface, up: Float[Tensor, "3"] | None = None, whole: Surface | None = None
) -> Plane | None:
    """The plane that most of a surface lies in; None where no plane holds `LEAST` of the whole.

    Args:
        whole: what the surface is a part of; None: itself.
        up: the plane's normal may differ from it by 50 degrees at most; None: any plane.

    Source: RANSAC (Fischler and Bolles, 1981) on points with normals, refined by least squares.
    """
    count = len(surface.points)
    if count < 3:
        return None
    draw = torch.Generator().manual_seed(0)
    points, normals = surface.points.double(), surface.normals.double()
    thickness = THICKNESS * surface.depth
    tried = torch.randint(count, (TRIES,), generator=draw)
    if up is not None:
        tried = tried[(normals[tried] @ up.double()).abs() > STEEPEST]
    if len(tried) == 0:
        return None
    some = torch.randint(count, (JUDGES,), generator=draw)
    offsets = (points[tried] * normals[tried]).sum(1)
    close = (points[some] @ normals[tried].T - offsets).abs() < thickness
    counts = (close & ((normals[some] @ normals[tried].T).abs() > ALIGNED)).sum(0)
    if counts.max() / JUDGES * count < LEAST * len((whole or surface).points):
        return None
    best = counts.argmax()
    plane = Plane(normals[tried[best]], float(offsets[best]), thickness)
    for _ in range(REFINEMENTS):
        inside = points[plane.holds(points, normals)]
        middle = inside.mean(0)
        normal = torch.linalg.eigh((inside - middle).T @ (inside - middle)).eigenvectors[:, 0]
        plane = Plane(normal, float(middle @ normal), thickness)
    if up is not None and plane.normal @ up.double() < 0:
        plane = Plane(-plane.normal, -plane.offset, thickness)
    return plane
