"""A depth map fitted to its photo: turned, without holes, and of the photo's size, with edges where the photo
has them."""

import numpy as np
import torch
from jaxtyping import Float, UInt
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cocogs.errors import InputError
from cocogs.io.photos import turned

ASPECT = 0.02  # by so much the shapes of a depth map and its photo may differ
FEWEST_KNOWN = 0.1  # of the pixels of a depth map
SEVERAL_HOLES = 0.005  # of the pixels: from here on the user is told
STEP = 0.03  # of the range of nearness: more than that between neighbours is an edge
ALIKE = 0.08  # of white, sRGB-encoded: colours that differ so much count .6 of equal ones
REACH = 2  # px of the depth map around a pixel of the photo, among which it chooses
AT_ONCE = 1 << 17  # pixels at edges that are worked on together


def fit_to_photo(
    nearness: Float[np.ndarray, "h w"],
    photo: UInt[np.ndarray, "H W 3"],
    orientation: int,
    source: str,
    name: str,
    any_shape: bool = False,
) -> tuple[Float[Tensor, "H W"], tuple[str, ...]]:
    """One over the depth of every pixel of a photo, and sentences for the user.

    A map of another size is interpolated between neighbours of like depth. At edges of the map a pixel takes
    the depth of the side whose colours are more like its own; sides are never mixed.

    Args:
        nearness: one over the depth, as stored; NaN where unknown.
        photo: upright, uint8 or uint16, sRGB.
        orientation: EXIF's. A map that has the shape of the photo before it was turned is turned, too.
        source, name: what the map and the photo are called.
        any_shape: the map shows the whole photo, upright, whatever its shape.

    Raises:
        InputError: the map has another shape than the photo, or hardly any values.
    """
    height, width = photo.shape[:2]
    notes = []
    fits = any_shape or _alike(nearness, width, height)
    if not fits and orientation >= 5 and _alike(nearness, height, width):
        nearness = turned(nearness, orientation)
    if not (any_shape or _alike(nearness, width, height)):
        raise InputError(
            f"{source} has {nearness.shape[1]}x{nearness.shape[0]} px, another shape than {name} with "
            f"{width}x{height}: give the depth of this photo, uncropped."
        )
    holes = float(np.isnan(nearness).mean())
    if 1 - holes < FEWEST_KNOWN:
        raise InputError(
            f"{source} knows no depth in {holes:.0%} of its pixels: give a map with fewer holes."
        )
    if holes > 0:
        nearness = _without_holes(nearness)
    if holes > SEVERAL_HOLES:
        notes.append(
            f"{source} knows no depth in {holes:.1%} of its pixels: they take that of their neighbours."
        )
    fitted = torch.from_numpy(np.ascontiguousarray(nearness, dtype=np.float32))
    if fitted.shape != (height, width):
        fitted = (
            enlarged(fitted, photo) if fitted.numel() < width * height else _shrunk(fitted, width, height)
        )
    return fitted, tuple(notes)


def _alike(array: np.ndarray, width: int, height: int) -> bool:
    """Whether a picture has the shape width x height: the sides agree within a px, or within `ASPECT`."""
    ratio = array.shape[1] * height / (array.shape[0] * width)
    rounding = 1 / array.shape[1] + 1 / array.shape[0]
    return abs(ratio - 1) <= max(ASPECT, rounding)


def _without_holes(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Unknown pixels take the nearest known value."""
    places = ndimage.distance_transform_edt(np.isnan(values), return_distances=False, return_indices=True)
    return values[tuple(places)]


def _shrunk(nearness: Float[Tensor, "h w"], width: int, height: int) -> Float[Tensor, "H W"]:
    """Single values, which mix no sides."""
    return F.interpolate(nearness[None, None], (height, width), mode="nearest-exact")[0, 0]


def enlarged(nearness: Float[Tensor, "h w"], photo: UInt[np.ndarray, "H W 3"]) -> Float[Tensor, "H W"]:
    """A map at the size of its photo; see `fit_to_photo`. Memory beside the two: for `AT_ONCE` pixels."""
    height, width = photo.shape[:2]
    smooth = F.interpolate(nearness[None, None], (height, width), mode="bilinear")[0, 0]
    edges = _edges(nearness)
    if not edges.any():
        return smooth
    guide = photo if photo.dtype == np.uint8 else (photo >> 8).astype(np.uint8)
    small = Image.fromarray(guide).resize(nearness.shape[::-1], Image.Resampling.BOX)
    colors = torch.from_numpy(np.array(small, dtype=np.float32).reshape(-1, 3)) / 255
    pixels = torch.from_numpy(guide.reshape(-1, 3))
    at = F.interpolate(edges[None, None].float(), (height, width), mode="nearest-exact")[0, 0]
    places = at.flatten().nonzero()[:, 0]
    flat = smooth.flatten()
    for part in places.split(AT_ONCE):
        y = (part.div(width, rounding_mode="floor") + 0.5) * (nearness.shape[0] / height) - 0.5
        x = (part % width + 0.5) * (nearness.shape[1] / width) - 0.5
        flat[part] = _chosen(nearness, colors, x, y, pixels[part].float() / 255)
    return flat.reshape(height, width)


def _edges(nearness: Float[Tensor, "h w"]) -> Tensor:
    """(h, w) bool: where a jump lies within reach."""
    jumps = torch.zeros_like(nearness)
    for axis in (0, 1):
        jump = nearness.diff(dim=axis).abs() > _step(nearness)
        count = jump.shape[axis]
        jumps.narrow(axis, 0, count)[jump] = 1
        jumps.narrow(axis, 1, count)[jump] = 1
    return F.max_pool2d(jumps[None, None], 2 * REACH + 1, 1, REACH)[0, 0] > 0


def _step(nearness: Float[Tensor, "h w"]) -> float:
    return STEP * float(nearness.max() - nearness.min())


def _chosen(
    nearness: Float[Tensor, "h w"],
    colors: Float[Tensor, "h*w 3"],
    x: Float[Tensor, " P"],
    y: Float[Tensor, " P"],
    own: Float[Tensor, "P 3"],
) -> Float[Tensor, " P"]:
    """The nearness of pixels at (x, y) px of the map, from the side whose colours are more like theirs.

    The values around a pixel are parted at the largest gap between them, the part with more weight stays; and
    once more. Those that stay are interpolated.
    """
    height, width = nearness.shape
    values, weights, close = [], [], []
    column, row = x.round().long(), y.round().long()
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            i, j = (row + dy).clamp(0, height - 1), (column + dx).clamp(0, width - 1)
            place = i * width + j
            apart = (colors[place] - own).square().sum(1)
            distance = (row + dy - y).square() + (column + dx - x).square()
            weights.append((-apart / (2 * ALIKE**2) - distance / 2).exp() + 1e-12 * (-distance).exp())
            tent = (1 - (row + dy - y).abs()).clamp_min(0) * (1 - (column + dx - x).abs()).clamp_min(0)
            close.append(tent + 1e-4 * (-2 * distance).exp())
            values.append(nearness.flatten()[place])
    value, order = torch.stack(values, 1).sort(1)
    weight, close = (torch.stack(w, 1).gather(1, order) for w in (weights, close))
    kept = torch.ones_like(value, dtype=torch.bool)
    for _ in range(2):
        inner = kept[:, 1:] & kept[:, :-1]
        gap, below = (value.diff(dim=1) * inner).max(1, keepdim=True)
        is_near = torch.arange(value.shape[1]) > below
        near, far = ((weight * (kept & side)).sum(1, keepdim=True) for side in (is_near, ~is_near))
        kept &= (is_near == (near > far)) | (gap <= _step(nearness))
    close = close * kept
    return (close * value).sum(1) / close.sum(1)
