"""A depth map fitted to its photo: turned, without holes, and of the photo's size, with edges where the photo
has them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cocogs.errors import InputError
from cocogs.io.photos import turned
from cocogs.quantiles import quantiles

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
        nearness = without_holes(nearness)
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


def without_holes(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Unknown pixels take the nearest known value."""
    places = ndimage.distance_transform_edt(np.isnan(values), return_distances=False, return_indices=True)
    assert places is not None
    return values[places[0], places[1]]


def _shrunk(nearness: Float[Tensor, "h w"], width: int, height: int) -> Float[Tensor, "H W"]:
    """Single values, which mix no sides."""
    return F.interpolate(nearness[None, None], (height, width), mode="nearest-exact")[0, 0]


def enlarged(nearness: Float[Tensor, "h w"], photo: UInt[np.ndarray, "H W 3"]) -> Float[Tensor, "H W"]:
    """A map at the size of its photo; see `fit_to_photo`."""
    height, width = photo.shape[:2]
    fitted = F.interpolate(nearness[None, None], (height, width), mode="bilinear")[0, 0]
    step = _step(nearness)
    edges = _edges(nearness, step)
    if not edges.any():
        return fitted
    guide = photo if photo.dtype == np.uint8 else (photo >> 8).astype(np.uint8)
    h, w = nearness.shape
    small = Image.fromarray(guide).resize((w, h), Image.Resampling.BOX)
    colors = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255
    pixels = torch.from_numpy(guide)
    rows, columns = (_nearest(a, b) for a, b in zip((height, width), nearness.shape, strict=True))
    band = max(1, AT_ONCE // nearness.shape[1])
    for top in range(0, nearness.shape[0], band):
        wanted = edges.clone()
        wanted[:top] = wanted[top + band :] = False
        around = _Around.of(nearness, colors, wanted, step)
        for part in wanted[rows][:, columns].nonzero().split(AT_ONCE):
            y, x = part.T
            own = pixels[y, x].float() / 255
            fitted[y, x] = around.chosen(
                rows[y],
                columns[x],
                _place(y, height, nearness.shape[0]),
                _place(x, width, nearness.shape[1]),
                own,
            )
    return fitted


def _nearest(many: int, few: int) -> Int[Tensor, " many"]:
    """In which of few pixels each of many has its centre."""
    return (2 * torch.arange(many) + 1) * few // (2 * many)


def _place(pixels: Int[Tensor, " P"], many: int, few: int) -> Float[Tensor, " P"]:
    """Where the centres of pixels lie in a row of fewer ones, px from the first one's centre."""
    return (pixels + 0.5) * (few / many) - 0.5


def _edges(nearness: Float[Tensor, "h w"], step: float) -> Bool[Tensor, "h w"]:
    """Where a jump lies within reach."""
    jumps = torch.zeros_like(nearness)
    for axis in (0, 1):
        jump = nearness.diff(dim=axis).abs() > step
        for start in (0, 1):
            jumps.narrow(axis, start, jump.shape[axis])[jump] = 1
    return F.max_pool2d(jumps[None, None], 2 * REACH + 1, 1, REACH)[0, 0] > 0


def _step(nearness: Float[Tensor, "h w"]) -> float:
    """What counts as a jump; single outliers do not change it."""
    low, high = quantiles(nearness, 0.01, 0.99).tolist()
    return STEP * (high - low) or STEP * float(nearness.max() - nearness.min())


@dataclass(frozen=True)
class _Around:
    """The pixels of a map around each pixel at an edge (E), the K of a square window.

    Args:
        nearness, colors: theirs.
        sides: 2 or 3: beyond the largest jump, 0 or 1: before it; odd: beyond the largest one on that side.
        index: of the map's pixels among the E.
    """

    nearness: Float[Tensor, "E K"]
    colors: Float[Tensor, "3 E K"]
    sides: Int[Tensor, "E K"]
    index: Int[Tensor, "h w"]

    @classmethod
    def of(
        cls,
        nearness: Float[Tensor, "h w"],
        colors: Float[Tensor, "3 h w"],
        edges: Bool[Tensor, "h w"],
        step: float,
    ) -> "_Around":
        planes = F.pad(torch.cat([nearness[None], colors])[None], [REACH] * 4, mode="replicate")
        windows = planes.unfold(2, 2 * REACH + 1, 1).unfold(3, 2 * REACH + 1, 1)[0]
        values = windows[:, edges].flatten(2)  # (4, E, K)
        index = torch.zeros(edges.shape, dtype=torch.long)
        index[edges] = torch.arange(values.shape[1])
        return cls(values[0], values[1:], _sides(values[0], step), index)

    def chosen(
        self,
        row: Int[Tensor, " P"],
        column: Int[Tensor, " P"],
        y: Float[Tensor, " P"],
        x: Float[Tensor, " P"],
        own: Float[Tensor, "P 3"],
    ) -> Float[Tensor, " P"]:
        """The nearness of P pixels of the photo: from the side whose colours are more like theirs,
        interpolated among the pixels of that side.

        Args:
            row, column: of the map's pixel that they lie in.
            y, x: where they lie, px of the map.
            own: their colours.
        """
        place = self.index[row, column]
        offsets = torch.arange(-REACH, REACH + 1).float()
        dx = (column - x)[:, None] + offsets.repeat(2 * REACH + 1)
        dy = (row - y)[:, None] + offsets.repeat_interleave(2 * REACH + 1)
        distance = dx.square() + dy.square()
        apart = sum((plane[place] - own[:, c, None]).square() for c, plane in enumerate(self.colors))
        weight = (-apart / (2 * ALIKE**2) - distance / 2).exp() + 1e-12 * (-distance).exp()
        sides = self.sides[place]
        sums = torch.stack([(weight * (sides == side)).sum(1) for side in range(4)], 1)
        best = 2 * (sums[:, 2:].sum(1) > sums[:, :2].sum(1))
        best += sums.gather(1, best[:, None] + 1)[:, 0] > sums.gather(1, best[:, None])[:, 0]
        tent = (1 - dx.abs()).clamp_min(0) * (1 - dy.abs()).clamp_min(0)
        share = (tent + 1e-4 * (-2 * distance).exp()) * (sides == best[:, None])
        return (share * self.nearness[place]).sum(1) / share.sum(1)


def _sides(nearness: Float[Tensor, "E K"], step: float) -> Int[Tensor, "E K"]:
    """See `_Around`."""
    value, order = nearness.sort(1)
    gaps, ranks = value.diff(dim=1), torch.arange(value.shape[1])

    def beyond(counts: Bool[Tensor, "E gaps"]) -> Bool[Tensor, "E K"]:
        """Of the sorted values, those beyond the largest of the gaps that count, if that is a jump."""
        gap, below = (gaps * counts).max(1, keepdim=True)
        return (ranks > below) & (gap > step)

    far_side = beyond(torch.ones_like(gaps, dtype=torch.bool))
    inner = far_side[:, 1:] == far_side[:, :-1]
    within = torch.where(far_side, beyond(inner & far_side[:, 1:]), beyond(inner & ~far_side[:, 1:]))
    return torch.empty_like(order).scatter_(1, order, 2 * far_side.long() + within.long())
