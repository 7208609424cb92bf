"""From what is drawn on a picture, or placed in the scene, to splats: polygons, brushes, floods, boxes."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from PIL import Image, ImageDraw
from torch import Tensor

from cocogs.camera import Camera
from cocogs.gaussians import Gaussians, extent
from cocogs.rasterize.contributors import contributors

ROOMY = 1.1  # of the extent of splats: the size of a box around them
GLIMPSE = 0.05  # share of a splat in a pixel from which it counts as seen

Mask = Bool[Tensor, " N"]
Region = Bool[Tensor, "H W"]
Points = Sequence[tuple[float, float]]


def polygon(camera: Camera, points: Points) -> Region:
    """The pixels inside a closed line.

    Args:
        points: its corners as parts of the picture's width and height.
    """
    picture = Image.new("1", (camera.width, camera.height))
    if len(points) > 2:
        ImageDraw.Draw(picture).polygon(_in_pixels(camera, points), fill=1, outline=1)
    return torch.from_numpy(np.array(picture))


def stroke(camera: Camera, points: Points, radius: float) -> Region:
    """The pixels that a round brush touches.

    Args:
        points: its way, as parts of the picture's width and height.
        radius: px.
    """
    picture = Image.new("1", (camera.width, camera.height))
    draw, way = ImageDraw.Draw(picture), _in_pixels(camera, points)
    draw.line(way, fill=1, width=max(1, round(2 * radius)))
    for x, y in way:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return torch.from_numpy(np.array(picture))


def flood(picture: Float[Tensor, "3 H W"], x: float, y: float, tolerance: float) -> Region:
    """The pixels that are reached from a point over pixels of its colour.

    Args:
        x, y: px.
        tolerance: length of the difference in sRGB.
    """
    from scipy.ndimage import label  # .3 s to load

    _, height, width = picture.shape
    row, column = min(int(y), height - 1), min(int(x), width - 1)
    alike = (picture - picture[:, row, column, None, None]).norm(dim=0) <= tolerance
    pieces = np.asarray(label(alike.numpy())[0])  # pyright: ignore[reportIndexIssue]
    return torch.from_numpy(pieces == pieces[row, column])


def in_region(gaussians: Gaussians, camera: Camera, region: Region) -> Mask:
    """The splats whose centres lie in front of a region, at any depth."""
    inside, _, shown = camera.looked_up(gaussians.means.detach(), region)
    return (inside & shown).cpu()


@torch.no_grad()
def seen(gaussians: Gaussians, camera: Camera) -> Mask:
    """The splats that a picture shows: nothing in front hides them."""
    shown = contributors(*gaussians.activated(), camera, count=8, antialiased=gaussians.antialiased)
    mask = torch.zeros(len(gaussians), dtype=torch.bool)
    mask[shown.ids[shown.weights > GLIMPSE].long().cpu()] = True
    return mask


def in_turned_box(
    gaussians: Gaussians,
    middle: Float64[Tensor, "3"],
    rotation: Float64[Tensor, "3 3"],
    size: Float64[Tensor, "3"],
) -> Mask:
    """The splats whose centres lie in a box.

    Args:
        middle, size: scene units.
        rotation: from the box's axes to the scene's.
    """
    local = (gaussians.means.detach().cpu().double() - middle) @ rotation
    return (local.abs() <= size / 2).all(1)


def box_around(
    gaussians: Gaussians, some: Mask, rotation: Float64[Tensor, "3 3"]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
    """Middle and size of a box with given axes that holds nearly all of some splats."""
    local = gaussians.means.detach().cpu()[some].double() @ rotation
    low, high = extent(local)
    return rotation @ ((low + high) / 2), ROOMY * (high - low).clamp_min(1e-3 * float((high - low).max()))


def _in_pixels(camera: Camera, points: Points) -> list[tuple[float, float]]:
    return [(x * camera.width, y * camera.height) for x, y in points]
