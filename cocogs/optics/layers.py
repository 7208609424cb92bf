"""The lens on a picture with depth, without a scene: layers of depth, blurred one by one and composited from
far to near in linear light. What a nearer thing hides is filled from the neighbourhood; the fill is invented.

Every step keeps gradients: by the picture, its depth, K and the focus distance.
"""

import math
from functools import cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.errors import InputError
from cocogs.io.pixels import keys_cubic
from cocogs.optics.aperture import lens_samples
from cocogs.optics.lens import MIN_DEPTH, PhotoLens

MOST_LAYERS = 64
STEP = 1.0  # px of blur diameter between neighbouring layers, as far as `MOST_LAYERS` allow
WIDEST_BLUR = 1.0  # diameter over the picture's longer side; what is wider shows nothing
DENSITY = 4  # points of the aperture per pixel of its disc
FEWEST_POINTS, MOST_POINTS = 64, 4096
ALIKE = 1e-3  # px: depths whose blur differs less are one layer
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
        blades, blade_rotation: the aperture's shape, as in `Lens`.

    Raises:
        InputError: a depth is not above 0, or the blur is wider than the picture.
    """
    if not bool((depth > 0).all()):  # NaN, too
        raise InputError("Every depth must be above 0: give infinity where nothing is.")
    vergence = 1 / depth.clamp_min(MIN_DEPTH)
    centers = _centers(vergence, lens)
    diameters = lens.coc(1 / centers.clamp_min(1e-30))
    widest = float(diameters.detach().abs().max())
    if widest > WIDEST_BLUR * max(depth.shape):
        raise InputError(
            f"The lens would blur by {widest:.0f} px, more than the picture's size: "
            "use a smaller aperture, or a focus distance nearer to the scene's depths."
        )
    margin = math.ceil(widest / 2) + 2
    wide = tuple(size + 2 * margin for size in depth.shape)
    shares = _shares(vergence, centers)
    shown, known = light.new_zeros(3, *depth.shape), torch.zeros_like(depth)
    for diameter, share in zip(diameters, shares, strict=True):
        known = known + share
        layer = _completed(torch.cat([share * light, share[None]]), known)
        padded = F.pad(layer[None], (margin,) * 4, mode="replicate")[0]
        kernel = soften(aperture_kernel(diameter, wide, blades, blade_rotation), wide, lens.softness)
        blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * kernel, s=wide)
        color, alpha = blurred[:, margin:-margin, margin:-margin].split([3, 1])
        shown = shown * (1 - alpha.clamp(0, 1)) + color
    return shown.clamp_min(0)


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
    columns, rows = (cells.long() % torch.tensor(size[::-1])).unbind(-1)
    place = rows[:, :, None] * size[1] + columns[:, None, :]
    weights = y[:, :, None] * x[:, None, :] / len(points)
    kernel = weights.new_zeros(size[0] * size[1]).index_add(0, place.flatten(), weights.flatten())
    return torch.fft.rfft2(kernel.reshape(size))


def soften(
    kernel: Complex[Tensor, "h w"], size: tuple[int, ...], softness: Float[Tensor, ""] | float
) -> Complex[Tensor, "h w"]:
    """The kernel, blurred by a Gaussian of this variance (px^2) more."""
    if float(softness) == 0:
        return kernel
    rows = torch.fft.fftfreq(size[0]).to(kernel.device)[:, None]
    frequency = rows.square() + torch.fft.rfftfreq(size[1]).to(kernel.device).square()
    return kernel * torch.exp(-2 * math.pi**2 * softness * frequency)


def _rounded(count: int) -> int:
    """A few counts for all, so that their points are kept."""
    return 1 << math.ceil(math.log2(count))


@cache
def _points(count: int, blades: int, rotation: float) -> Float[Tensor, "{count} 2"]:
    """Points of the unit aperture, of its own variance."""
    return lens_samples(count, 1e-9, blades, rotation).double()


def _keys(distance: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    near, far = keys_cubic(distance)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))


def _centers(vergence: Float[Tensor, "H W"], lens: PhotoLens) -> Float[Tensor, " L"]:
    """1 / depth of the layers, far to near, evenly spaced."""
    low, high = vergence.min(), vergence.max()
    spread = float((lens.K * (high - low)).detach())
    if spread < ALIKE:
        return ((low + high) / 2)[None]
    count = min(max(2, math.ceil(spread / STEP) + 1), MOST_LAYERS)
    return low + (high - low) * torch.arange(count).to(vergence) / (count - 1)


def _shares(vergence: Float[Tensor, "H W"], centers: Float[Tensor, " L"]) -> Float[Tensor, "L H W"]:
    """How much of each pixel belongs to each layer: the two nearest ones share it."""
    if len(centers) == 1:
        return torch.ones_like(vergence)[None]
    place = (vergence - centers[0]) / (centers[1] - centers[0])
    index = torch.arange(len(centers)).to(vergence)[:, None, None]
    return (1 - (place - index).abs()).clamp_min(0)


def _completed(layer: Float[Tensor, "4 H W"], known: Float[Tensor, "H W"]) -> Float[Tensor, "4 H W"]:
    """A layer (light times share, share) where it lies in front of all farther ones, and filled in from its
    surroundings where nearer things hide it.

    Args:
        known: the part of each pixel that this layer and farther ones take; the rest is hidden.
    """
    hidden = (1 - known).clamp(0, 1)
    if float(hidden.detach().max()) < CLEAR:
        return layer
    return layer + hidden * _filled(torch.cat([layer, known[None]]))


def _filled(values: Float[Tensor, "C H W"]) -> Float[Tensor, "C-1 H W"]:
    """Means of the first channels weighted by the last, of ever larger surroundings until there is weight."""
    height, width = values.shape[1:]
    if max(height, width) == 1:
        return values[:-1] / values[-1].clamp_min(CLEAR)
    smaller = F.avg_pool2d(values[None], 2, ceil_mode=True, count_include_pad=False)
    far = F.interpolate(_filled(smaller[0])[None], scale_factor=2, mode="bilinear", align_corners=False)[
        0, :, :height, :width
    ]
    weight = values[-1].clamp(0, 1)
    return values[:-1] + (1 - weight) * far
