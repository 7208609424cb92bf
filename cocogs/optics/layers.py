"""The lens on a picture with depth, without a scene: layers of depth, blurred one by one and composited from
near to far in linear light. What a nearer thing hides is filled from the neighbourhood; the fill is invented.

A picture is drawn in tiles, which pay only for the layers that they have. Tiles grow with the widest blur;
`AT_ONCE` bounds how many are drawn at once. Every step keeps gradients: by the picture, its depth, K and the
focus distance.
"""

import math
from collections import deque
from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.errors import InputError
from cocogs.io.pixels import keys_cubic
from cocogs.optics.aperture import corner_radius, lens_samples
from cocogs.optics.lens import PhotoLens
from cocogs.plain_torch import serves_gradients
from cocogs.threads import in_order

STEP = 1.0  # px of blur diameter between neighbouring layers near the focus
EVEN = 10.0  # px: from about this diameter on, layers lie apart in proportion to it
TILE = 320  # px that a tile draws, a side; larger ones leave the cache and take longer
TILE_MARGINS = 4  # at least so many margins a side
AT_ONCE = 1 << 23  # px of all tiles that are drawn at once, about 150 bytes each
ROUND = 32  # sides of tiles are multiples, which the Fourier transform takes quickly
DENSITY = 4  # points of the aperture per pixel of its disc
FEWEST_POINTS, MOST_POINTS = 64, 16384
COARSE, COARSEST = 12.0, 5  # px of blur per px that a layer is drawn in, of 2**0 to 2**5 px
ALIKE = 4  # layers; what lies farther in front than this hides, what is nearer to a layer continues it
CLEAR = 1e-4  # less than this part of a pixel is nothing


def photograph_layers(
    light: Float[Tensor, "3 H W"],
    depth: Float[Tensor, "H W"],
    lens: PhotoLens,
    blades: int = 0,
    blade_rotation: float = 0.0,
) -> Float[Tensor, "3 H W"]:
    """Linear light through the lens, from a sharp picture with depth.

    Args:
        light: linear, >= 0, of the sharp picture.
        depth: z-depth of each pixel, > 0, in the unit of `lens`; infinity is allowed.
        lens: its softness gets no gradients.
        blades, blade_rotation: the aperture's shape, as in `Lens`.

    Raises:
        InputError: a depth is not above 0, or the blur is wider than the picture.
    """
    if not bool((depth > 0).all()):  # NaN, too
        raise InputError("Every depth must be above 0: give infinity where nothing is.")
    softness = float(torch.as_tensor(lens.softness).detach())
    return blur_layers(light, lens.coc(depth), softness, blades, blade_rotation)


def blur_layers(
    light: Float[Tensor, "3 H W"],
    coc: Float[Tensor, "H W"],
    softness: float = 0.0,
    blades: int = 0,
    blade_rotation: float = 0.0,
    check: Callable[[float], None] = lambda share: None,
) -> Float[Tensor, "3 H W"]:
    """Linear light, blurred by what each pixel's circle of confusion says.

    Args:
        light: linear, >= 0, of the sharp picture.
        coc: signed diameter of the circle of confusion, px; what has more of it lies in front.
        softness: variance, px^2, of a Gaussian that blurs everything alike.
        blades, blade_rotation: the aperture's shape, as in `Lens`.
        check: called after each tile with the share that is drawn; may raise, to abandon the picture.

    Raises:
        InputError: a circle is no finite number, or wider than the picture's longer side.
    """
    widest = float(coc.detach().abs().max())
    if not math.isfinite(widest):
        raise InputError(
            "Every circle of confusion must be a finite number of px: use a smaller aperture, or a focus "
            "distance nearer to the scene's depths."
        )
    if widest > max(coc.shape):
        raise InputError(
            f"The lens would blur by {widest:.0f} px, more than the picture's size: "
            "use a smaller aperture, or a focus distance nearer to the scene's depths."
        )
    kernels = _Kernels(softness, blades, blade_rotation)
    margin = kernels.reach(widest)
    picture, shown = torch.cat([light, coc[None]]), torch.empty_like(light)
    tiles = [(y, x) for y in _tiles(coc.shape[0], margin) for x in _tiles(coc.shape[1], margin)]

    def drawn(tile: tuple[range, range]) -> Tensor:
        part = _surrounded(picture, *tile, margin)
        return _blurred(part[:3], part[3], kernels)[:, margin:, margin:][:, : len(tile[0]), : len(tile[1])]

    keeps = torch.is_grad_enabled() and picture.requires_grad
    most = AT_ONCE // ((len(tiles[0][0]) + 2 * margin) * (len(tiles[0][1]) + 2 * margin))
    parts = in_order(drawn, tiles, 0 if keeps or coc.is_cuda else most)
    for number, ((y, x), part) in enumerate(zip(tiles, parts, strict=True)):
        shown[:, y.start : y.stop, x.start : x.stop] = part
        check((number + 1) / len(tiles))
    return shown.clamp_min(0)


def _tiles(size: int, margin: int) -> list[range]:
    """Ranges of one length that cover `size` px, the last ones perhaps twice."""
    count = math.ceil(size / max(TILE, TILE_MARGINS * margin))
    length = math.ceil(size / count)
    starts = [min(number * length, size - length) for number in range(count)]
    return [range(start, start + length) for start in starts]


def _surrounded(picture: Float[Tensor, "C H W"], y: range, x: range, margin: int) -> Float[Tensor, "C h w"]:
    """A tile and at least `margin` px around it; beyond the picture's border, its border repeated."""
    parts, pads = [slice(None)], []
    for tile, size in ((y, picture.shape[1]), (x, picture.shape[2])):
        start = tile.start - margin
        end = start + math.ceil((len(tile) + 2 * margin) / ROUND) * ROUND
        parts.append(slice(max(start, 0), min(end, size)))
        pads = [max(-start, 0), max(end - size, 0), *pads]
    return F.pad(picture[tuple(parts)][None], pads, mode="replicate")[0]


class _Kernels:
    """The images of the aperture at the layers' blur, made once for all tiles, which have one size.

    Args:
        softness, blades, blade_rotation: as in `blur_layers`.
    """

    def __init__(self, softness: float, blades: int, blade_rotation: float) -> None:
        self.softness, self.shape = softness, (blades, blade_rotation)
        self._made: dict[int, Tensor] = {}

    def reach(self, widest: float) -> int:
        """How far light goes sideways, px, where the blur is `widest` px."""
        blades, _ = self.shape
        corners = corner_radius(blades) if blades else 1.0
        return math.ceil(corners * widest / 2 + 3 * math.sqrt(self.softness)) + 2

    def blur(self, values: Float[Tensor, "C h w"], layer: int, scale: int) -> Float[Tensor, "C h w"]:
        """Values as the layer shows them.

        Args:
            scale: px that a pixel of `values` is wide.
        """
        if layer == 0 and self.softness == 0:
            return values
        size = tuple(values.shape[1:])
        if layer not in self._made:
            diameter = torch.tensor(_diameter(layer) / scale).to(values)
            image = aperture_kernel(diameter, size, *self.shape)
            self._made[layer] = soften(image, size, self.softness / scale**2)
        return torch.fft.irfft2(torch.fft.rfft2(values).mul_(self._made[layer]), s=size)


def _diameter(layer: int) -> float:
    """Signed blur of a layer, px; layer 0 is in focus."""
    return EVEN * math.sinh(layer * STEP / EVEN)


def _layer_of(coc: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """The number of the layer that has this blur; between two whole ones, both share it."""
    return torch.asinh(coc / EVEN) * (EVEN / STEP)


def _scale(layer: int) -> int:
    """How coarse the pixels may be in which a layer is blurred: a power of 2."""
    return 2 ** min(int(math.log2(max(abs(_diameter(layer)) / COARSE, 1))), COARSEST)


def _blurred(
    light: Float[Tensor, "3 h w"], coc: Float[Tensor, "h w"], kernels: _Kernels
) -> Float[Tensor, "3 h w"]:
    """A tile, from its nearest layer to its farthest."""
    place = _layer_of(coc)
    first, last = math.floor(float(place.detach().min())), math.ceil(float(place.detach().max()))
    unit = torch.cat([light, torch.ones_like(coc)[None]])
    shown, covered = torch.zeros_like(unit), torch.zeros_like(coc)
    nearer: deque[tuple[int, Tensor]] = deque()
    for layer in range(last, first - 1, -1):
        share = (1 - (place - layer).abs()).clamp_min(0)
        if float(share.detach().max()) <= CLEAR:
            continue
        while nearer and nearer[0][0] > layer + ALIKE:
            covered = covered + nearer.popleft()[1]
        seen = (layer + ALIKE + 1 - place).clamp(0, 1)
        color, own = _drawn(torch.cat([unit * share, seen[None], share[None]]), layer, kernels).split([4, 1])
        shown = torch.addcmul(shown, (1 - covered).clamp(0, 1), color)
        nearer.append((layer, own[0]))
    return shown[:3] / shown[3:].clamp_min(CLEAR)


def _drawn(values: Float[Tensor, "6 h w"], layer: int, kernels: _Kernels) -> Float[Tensor, "5 h w"]:
    """A layer, blurred: its light and alpha, filled in where nearer things hide it; its alpha without that.

    Args:
        values: light and alpha of the layer; how much of each pixel is not hidden; the layer's alpha again.
    """
    scale = _scale(layer)
    for _ in range(scale.bit_length() - 1):
        values = _halved(values)
    blurred = kernels.blur(torch.cat([filled_in(values[:5]), values[5:]]), layer, scale)
    return blurred if scale == 1 else _finer(blurred, scale)


def filled_in(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C-1 H W"]:
    """The first channels (times the last one, their weight), and means of ever larger surroundings where
    weight is missing."""
    height, width = values.shape[1:]
    if max(height, width) == 1:
        return values[:-1] / values[-1].clamp_min(CLEAR)
    weight = values[-1]
    if float(weight.detach().min()) > 1 - CLEAR:
        return values[:-1]
    far = _finer(filled_in(_halved(F.pad(values, (0, width % 2, 0, height % 2)))), 2)
    return torch.addcmul(values[:-1], 1 - weight, far[:, :height, :width])


def _halved(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C h w"]:
    """Means of 2x2 px; both sides are even."""
    rows = values[:, ::2] + values[:, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def _finer(values: Float[Tensor, "C h w"], scale: int) -> Float[Tensor, "C H W"]:
    return F.interpolate(values[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]


def aperture_kernel(
    diameter: Float[Tensor, ""], size: tuple[int, ...], blades: int = 0, blade_rotation: float = 0.0
) -> Complex[Tensor, "h w"]:
    """The transform (`torch.fft.rfft2`) of the aperture's image, for pictures of `size`; its light is 1.

    Points of the aperture are drawn with Keys's cubic (1981), which keeps their mean and variance exactly.
    The kernel thus goes smoothly through a diameter of 0, where it is a single pixel.

    Args:
        diameter: of the circle of the aperture's area, px; negative turns the aperture by 180 degrees.
    """
    radius = float(diameter.detach().abs()) / 2
    count = min(max(FEWEST_POINTS, round(DENSITY * math.pi * radius**2)), MOST_POINTS)
    points = _points(_rounded(count), blades, blade_rotation).to(diameter) * (diameter / 2)
    first = points.detach().floor() - 1
    offsets = torch.arange(4).to(diameter)
    cells = first[:, None] + offsets[None, :, None]  # (P, 4, 2)
    x, y = _keys((cells - points[:, None]).abs()).unbind(-1)
    columns, rows = cells.long().unbind(-1)
    place = (rows % size[0])[:, :, None] * size[1] + (columns % size[1])[:, None, :]
    weights = y[:, :, None] * x[:, None, :] / len(points)
    kernel = weights.new_zeros(size[0] * size[1]).index_add(0, place.flatten(), weights.flatten())
    return torch.fft.rfft2(kernel.reshape(size))


def soften(kernel: Complex[Tensor, "h w"], size: tuple[int, ...], softness: float) -> Complex[Tensor, "h w"]:
    """The kernel, blurred by a Gaussian of this variance (px^2) more."""
    if softness == 0:
        return kernel
    rows = torch.fft.fftfreq(size[0]).to(kernel.device)[:, None]
    frequency = rows.square() + torch.fft.rfftfreq(size[1]).to(kernel.device).square()
    return kernel * torch.exp(-2 * math.pi**2 * softness * frequency)


def _rounded(count: int) -> int:
    """A few counts for all, so that their points are kept."""
    return 1 << math.ceil(math.log2(count))


@lru_cache(64)
@serves_gradients
def _points(count: int, blades: int, rotation: float) -> Float[Tensor, "{count} 2"]:
    """Points of the unit aperture, of its own variance."""
    return lens_samples(count, 1e-9, blades, rotation).double()


def _keys(distance: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    near, far = keys_cubic(distance)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))
