"""An object of a picture moved in space: lifted by its depth, moved, projected again.

What is moved is a picture or any map of features over it, of any resolution. The object's surface is a mesh
with one square for each pixel, cut where depth jumps, so that it neither cracks where it is enlarged nor
stretches over edges. Points that leave the picture are dropped; the back of a surface is not seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.io.pixels import keys_cubic
from cocogs.mesh.drawing import Drawing, draw_flat
from cocogs.optics.layers import filled_in

CUT = 0.03  # of nearness: pixels that disagree so much on the corner between them lie on two surfaces
STEEP = 0.1  # of nearness per px: steeper slopes are edges
# Sources are rounded to so many parts of a px: with the rounding of the projection away, what does not move
# keeps its values bit for bit.
PARTS = 1024
NUDGE = (1e-5, 1.7e-5)  # px by which pixels are looked at beside their centres, where edges of squares meet
AT_ONCE = 1 << 20  # px of the target that are drawn together
FARTHER = 0.1  # of a pixel's nearness: less is not believed of its corners
CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))  # (x, y) of a pixel's square
HALVES = ((0, 1, 2), (0, 2, 3))


@dataclass(frozen=True)
class Motion:
    """A rigid motion and a scale about a pivot, in the camera's axes: x right, y down, z away.

    Args:
        rotation: (3, 3), determinant +1.
        scale: > 0.
        move: in the unit of the depth.
        pivot: the point about which it turns and grows.
    """

    rotation: Float[Tensor, "3 3"]
    scale: float
    move: Float[Tensor, "3"]
    pivot: Float[Tensor, "3"]

    def __call__(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
        """Where points come to lie."""
        turned = (points - self.pivot.to(points)) @ (self.scale * self.rotation.to(points)).T
        return turned + (self.pivot + self.move).to(points)


@dataclass(frozen=True)
class Correspondences:
    """Where each pixel of a target comes from.

    Args:
        source: position (x, y) in px of the photo; NaN where the object is not.
        depth: of the moved object, z; infinite where it is not.
        depth_before: of the same point before it moved.
        torn: where parts of the object have come apart, and what was hidden between them would be seen.
        size: (width, height) of the photo.
    """

    source: Float[Tensor, "h w 2"]
    depth: Float[Tensor, "h w"]
    depth_before: Float[Tensor, "h w"]
    torn: Bool[Tensor, "h w"]
    size: tuple[int, int]

    @property
    def there(self) -> Bool[Tensor, "h w"]:
        return self.depth.isfinite()

    def source_in(self, width: int, height: int) -> Float[Tensor, "h w 2"]:
        """The sources in px of a map of this size over the photo."""
        scale = self.source.new_tensor([width / self.size[0], height / self.size[1]])
        return (self.source * scale * PARTS).round() / PARTS

    def carry(self, features: Float[Tensor, "C a b"]) -> Float[Tensor, "C h w"]:
        """A map over the photo, of any resolution, at its new place; 0 where the object is not.

        By cubic convolution, which keeps fine detail. It passes through the map's own values.
        """
        places = self.source_in(features.shape[2], features.shape[1])[self.there]
        carried = features.new_zeros(features.shape[0], *self.depth.shape)
        carried[:, self.there] = _sampled(features, places)
        return carried


def follow(
    depth: Float[Tensor, "H W"],
    mask: Bool[Tensor, "H W"],
    camera: Camera,
    motion: Motion,
    target: Camera | None = None,
) -> Correspondences:
    """Lift the masked pixels, move them, and project them.

    Args:
        depth: along the optical axis, > 0 and finite in the mask.
        camera: of the photo, its pose the identity.
        target: the same camera, cropped or of another size; None: the same. What comes nearer than its `near`
            or is not in its picture is dropped.
    """
    target = target or camera
    width, height = target.width, target.height
    pixels, corners = _squares(1 / depth.double(), mask, CUT)
    found = torch.full((height, width, 2), torch.nan, dtype=torch.float64)
    after, before = torch.full((2, height, width), torch.inf)
    flat = _projected(pixels, corners, camera, motion, target)
    local = F.pad(pixels.new_tensor(CORNERS).double().expand(len(pixels), 4, 2), (0, 1), value=1.0)
    local = local / corners[..., None]  # (x z, y z, z), from the pixel's own corner
    for box, shown, owners in _drawn(flat, width, height, target.near):
        there = shown.faces >= 0
        owner = owners[shown.faces[there]]
        three = local[owner[:, None] // 2, torch.tensor(HALVES)[owner % 2]]
        here = (three * shown.weights[there].double()[..., None]).sum(1)
        found[box][there] = pixels[owner // 2] + here[:, :2] / here[:, 2:]
        before[box][there] = here[:, 2].float()
        after[box] = shown.depth
    torn = torch.zeros(height, width, dtype=torch.bool)
    whole = _squares(1 / depth.double(), mask, torch.inf)[1]
    if not torch.equal(whole, corners):
        stretched = _projected(pixels, whole, camera, motion, target)
        for box, shown, _ in _drawn(stretched, width, height, target.near):
            torn[box] = (shown.faces >= 0) & after[box].isinf()
    return Correspondences(found, after, before, torn, (camera.width, camera.height))


def _projected(
    pixels: Int64[Tensor, "N 2"],
    corners: Float[Tensor, "N 4"],
    camera: Camera,
    motion: Motion,
    target: Camera,
) -> Float[Tensor, "N 4 3"]:
    """Homogeneous positions (x z, y z, z) of the moved squares' corners in the target."""
    places = pixels[:, None] + pixels.new_tensor(CORNERS)
    moved = motion(camera.unproject(places.double(), 1 / corners))
    flat = moved @ target.intrinsics.double().T
    return flat - F.pad(flat.new_tensor(NUDGE), (0, 1)) * flat[..., 2:]


@dataclass(frozen=True)
class MovedFeatures:
    """A map of features over a photo whose object has moved. Sizes are the map's.

    Args:
        features: of the object alone, 0 elsewhere.
        depth: of the moved object; infinite elsewhere.
        source: where each pixel comes from, px of the map; NaN elsewhere.
        uncovered: shows what lay behind the object.
        torn: within the moved object's outline, without a source.
    """

    features: Float[Tensor, "C h w"]
    depth: Float[Tensor, "h w"]
    source: Float[Tensor, "h w 2"]
    uncovered: Bool[Tensor, "h w"]
    torn: Bool[Tensor, "h w"]


def move_features(
    features: Float[Tensor, "C h w"],
    depth: Float[Tensor, "H W"],
    mask: Bool[Tensor, "H W"],
    camera: Camera,
    motion: Motion,
) -> MovedFeatures:
    """Lift, move and project a picture, or the activations of a network.

    Values near the object's outline are interpolated among the object's own.

    Args:
        depth, mask, camera: see `follow`; of the photo's size.
    """
    height, width = features.shape[1:]
    ways = follow(depth, mask, camera, motion, camera.resized(width, height))
    own = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0]
    inner = filled_in(torch.cat([features * own, own.to(features)]))
    uncovered = (own[0] > 0) & ~ways.there & ~ways.torn
    return MovedFeatures(ways.carry(inner), ways.depth, ways.source_in(width, height), uncovered, ways.torn)


def _drawn(
    flat: Float[Tensor, "N 4 3"], width: int, height: int, near: float
) -> Iterator[tuple[tuple[slice, slice], Drawing, Int64[Tensor, " F"]]]:
    """Bands of the target that may show something, and the squares (times 2, plus their half) of their
    triangles. The back of a surface is left out."""
    ahead = (flat[..., 2] > near).all(1)[:, None]
    places = flat[..., :2] / torch.where(ahead[..., None], flat[..., 2:], 1)
    whole = flat.new_tensor([width, height])
    low = torch.where(ahead, places.amin(1), 0).clamp_min(0)
    high = torch.where(ahead, places.amax(1), whole).minimum(whole)
    seen = (flat[..., 2] > near).any(1) & (low < high).all(1)
    if not bool(seen.any()):
        return
    left, top = low[seen].amin(0).floor().long().tolist()
    right, bottom = high[seen].amax(0).ceil().long().tolist()
    step = max(1, AT_ONCE // (right - left))
    for row in range(top, bottom, step):
        rows = min(step, bottom - row)
        number = (seen & (low[:, 1] < row + rows) & (high[:, 1] > row)).nonzero()[:, 0]
        mine = flat[number] - flat.new_tensor([left, row, 0]) * flat[number][..., 2:]
        a, b, c = mine[:, torch.tensor(HALVES)].unbind(2)
        front = (a * torch.linalg.cross(b, c)).sum(-1) > 0
        faces = (4 * torch.arange(len(mine))[:, None, None] + torch.tensor(HALVES))[front]
        owners = (2 * number[:, None] + torch.arange(2))[front]
        shown = draw_flat(mine.flatten(0, 1), faces, right - left, rows, near)
        yield (slice(row, row + rows), slice(left, right)), shown, owners


def _squares(
    nearness: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"], cut: float
) -> tuple[Int64[Tensor, "N 2"], Float[Tensor, "N 4"]]:
    """The masked pixels (x, y), and the nearness of the corners of their squares.

    Every pixel continues its surface to its corners; those that agree there share the mean. Planes come out
    exactly, because nearness is linear in a picture of them.

    Args:
        cut: of nearness, by which those differ that do not agree.
    """
    rows, columns = (axis.nonzero()[:, 0] for axis in (mask.any(1), mask.any(0)))
    if len(rows) == 0:
        return torch.zeros(0, 2, dtype=torch.int64), nearness.new_zeros(0, 4)
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    inner = mask[box]
    value = torch.where(inner, nearness[box], torch.nan)
    height, width = value.shape
    across, down = _slope(value), _slope(value.T).T
    at_corners = [
        F.pad(value + (x - 0.5) * across + (y - 0.5) * down, (x, 1 - x, y, 1 - y), value=torch.nan)
        for x, y in CORNERS
    ]
    agreed = _agreed(torch.stack(at_corners, -1), cut)
    own = [agreed[y : y + height, x : x + width, number] for number, (x, y) in enumerate(CORNERS)]
    corners = torch.stack([corner[inner] for corner in own], 1)
    first = torch.tensor([box[1].start, box[0].start])
    return inner.nonzero().flip(1) + first, corners.maximum(FARTHER * value[inner][:, None])


def _slope(value: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Change from column to column: the smaller one of both sides, which does not cross edges; 0 where they
    have different signs, or where there is none."""
    step = value[:, 1:] - value[:, :-1]
    step = torch.where(step.abs() < STEEP * value[:, 1:], step, torch.nan)
    before, after = (F.pad(step, sides, value=torch.nan) for sides in ((1, 0), (0, 1)))
    before, after = torch.where(before.isnan(), after, before), torch.where(after.isnan(), before, after)
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(before * after > 0, smaller, 0)


def _agreed(values: Float[Tensor, "*P 4"], cut: float) -> Float[Tensor, "*P 4"]:
    """Each value, or the mean of those that it belongs to: neighbours in order differ by less than `cut`."""
    ordered, order = values.sort(-1)  # NaN comes last
    apart = ordered[..., 1:] - ordered[..., :-1] > cut * ordered[..., 1:]
    group = torch.zeros_like(order).scatter(-1, order, F.pad(apart.cumsum(-1), (1, 0)))
    counts = (~values.isnan()).to(values)
    values = values.nan_to_num()
    together = (group[..., None] == group[..., None, :]).to(values) * counts[..., None, :]
    return (together * values[..., None, :]).sum(-1) / together.sum(-1).clamp_min(1)


def _sampled(features: Float[Tensor, "C H W"], places: Float[Tensor, "P 2"]) -> Float[Tensor, "C P"]:
    """Values at places (x, y) px, by cubic convolution (Keys 1981); beyond the border, its own values."""
    height, width = features.shape[1:]
    first = (places - 0.5).floor()
    part = (places - 0.5 - first).to(features)
    cells = first.long()
    before, after = keys_cubic(part)[0], keys_cubic(1 - part)[0]
    shares = torch.stack([keys_cubic(1 + part)[1], before, after, keys_cubic(2 - part)[1]])
    columns, rows = (
        torch.stack([cells[:, axis] + step for step in range(-1, 3)]).clamp(0, size - 1)
        for axis, size in enumerate((width, height))
    )
    flat, total = features.flatten(1), features.new_zeros(features.shape[0], len(places))
    for row, down in zip(rows, shares[..., 1], strict=True):
        for column, across in zip(columns, shares[..., 0], strict=True):
            total.addcmul_(flat[:, row * width + column], down * across)
    return total
