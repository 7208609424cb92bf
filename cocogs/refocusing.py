"""The scene through a lens that the user sets: any focus, any aperture, round or bladed.

Two qualities (METHOD.md section 2). Interactive: one render, every splat widened by its circle of
confusion. Final: N sharp renders from points of the aperture, each re-aimed so that the plane in focus
stays put, averaged in linear light; near things then hide far ones as they do in a lens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.coc.expand import PhotoLens, widen
from cocogs.coc.lens import MIN_DEPTH, blur_variance, coc_diameter, lens_samples
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, cross_section
from cocogs.rasterize import rasterize, reference
from cocogs.srgb import compress_highlights, expand_highlights, to_linear, to_srgb

OVERLAP = 2.0  # of the sub-apertures: at 1, highlights far out of focus show the separate samples
FAINT = 4 / 255  # blurred opacity under which not all splats are drawn
GOLDEN = (5**0.5 - 1) / 2
SOLID = 0.5  # opacity from which on a pixel shows something rather than the background


@dataclass(frozen=True)
class Lens:
    """A lens as a photographer sets it.

    Args:
        focus_distance: depth in focus along the optical axis, scene units, > 0; infinity is allowed.
        aperture: diameter of the opening, scene units, >= 0; 0 is a pinhole, which shows all sharp.
            (The K of the formulas is `aperture` x fx, in px x scene unit.)
        blades: number of aperture blades, 0 for a round opening, else at least 3. The polygon has the
            area of the circle with this diameter, so that blades change the shape and not the light.
        blade_rotation: turns the polygon, degrees, clockwise in the picture.
        highlights: how much light there was where the photos are white, from 1 (no more than they show) on.
            They cannot tell; with 4 or so, bright points out of focus stand out as discs, as in photos. What
            is in focus keeps its brightness.

    Raises:
        InputError: a value is out of its range.
    """

    focus_distance: float
    aperture: float
    blades: int = 0
    blade_rotation: float = 0.0
    highlights: float = 1.0

    def __post_init__(self) -> None:
        if not self.focus_distance > 0:
            raise InputError(f"The focus distance must be above 0, not {self.focus_distance:g}.")
        if not 0 <= self.aperture < math.inf:
            raise InputError(f"The aperture must be a diameter from 0 on, not {self.aperture:g}.")
        if self.blades < 0 or self.blades in (1, 2):
            raise InputError(f"A lens has 0 (round) or at least 3 blades, not {self.blades}.")
        if not math.isfinite(self.blade_rotation):
            raise InputError(
                f"The blades' rotation must be an angle in degrees, not {self.blade_rotation:g}."
            )
        if not 1 <= self.highlights < math.inf:
            raise InputError(f"The light of highlights must be 1 or more, not {self.highlights:g}.")

    def of(self, camera: Camera) -> PhotoLens:
        """The same as the formulas take it, for pictures of this camera."""
        return PhotoLens(torch.tensor(float(self.focus_distance)), torch.tensor(self.aperture * camera.fx))


@torch.no_grad()
def refocus(
    gaussians: Gaussians,
    camera: Camera,
    lens: Lens,
    samples: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Float[Tensor, "3 H W"]:
    """The scene through `lens`: sRGB-encoded, from 0, not clamped above.

    With `lens.aperture` 0 both qualities give the sharp view, to the bit.

    Args:
        samples: 0 for interactive quality, which knows neither blades nor highlights; else the number of
            points of the aperture. Time grows with it, memory does not. 16 are close (docs/benchmarks.md), 64
            good; small highlights spread over 50 px and more want 256.
        check: called before each sample; may raise, to give up a picture that is no longer wanted.

    Raises:
        InputError: `samples` is negative.
    """
    if samples < 0:
        raise InputError(f"The number of samples must be 0 (interactive) or more, not {samples}.")
    seen_through = lens.of(camera)
    if samples == 0 or lens.aperture == 0:
        copies = widen(gaussians.activated(), camera.cam_from_world.to(gaussians.means), seen_through)
        assert copies.blur is not None
        return _render(gaussians, camera, copies.blur[0])
    overlap = min(OVERLAP, samples)
    coc = coc_diameter(camera.depths(gaussians.means), seen_through.focus_distance, seen_through.aperture)
    blur = blur_variance(coc * math.sqrt(overlap / samples))
    light = gaussians.means.new_zeros(3, camera.height, camera.width)
    points = lens_samples(samples, overlap, lens.blades, lens.blade_rotation, settled=True)
    for index, point in enumerate(points):
        check()
        shown = to_linear(_render(gaussians, seen_from(camera, lens, point), blur, index))
        light += expand_highlights(shown, lens.highlights)
    return to_srgb(compress_highlights(light / samples, lens.highlights))


def seen_from(camera: Camera, lens: Lens, point: Float[Tensor, "2"]) -> Camera:
    """The pinhole camera at `point` of the aperture (x right, y down, in aperture radii), re-aimed by
    its principal point so that the plane in focus stays where it is in the picture."""
    offset = point.to(camera.K) * lens.aperture / 2
    transform, K = camera.cam_from_world.clone(), camera.K.clone()
    transform[:2, 3] -= offset
    K[:2, 2] += offset * K.diagonal()[:2] / lens.focus_distance
    return replace(camera, K=K, cam_from_world=transform)


def _render(
    gaussians: Gaussians, camera: Camera, blur: Float[Tensor, " N"], index: int = 0
) -> Float[Tensor, "3 H W"]:
    """The scene with every splat widened by `blur` px^2; `index` numbers the samples of a picture."""
    means, quats, scales, opacities = gaussians.activated()
    px_per_unit = camera.fx / camera.depths(means).clamp_min(MIN_DEPTH)
    g, (dilation, pixel_blur) = gaussians, reference.pixel_filter(gaussians.antialiased)
    area = cross_section(scales) * px_per_unit.square() + dilation
    sharp, blurred = (opacities * area / (area + pixel_blur + more) for more in (0, blur))
    splats = means, quats, scales, opacities * _thinned(sharp, blurred, index), g.sh0, g.shN
    return rasterize(*splats, camera, blur=blur, antialiased=g.antialiased).colors[0]


def _thinned(sharp: Float[Tensor, " N"], blurred: Float[Tensor, " N"], index: int) -> Float[Tensor, " N"]:
    """Factors of the opacities (which may then exceed 1), 0 for splats that are left out.

    A splat so wide that its opacity falls under 1/255 is not drawn, and a scene of such splats would vanish.
    Of splats that faint a part is drawn instead, stronger in proportion: the same light, and in less time.

    Args:
        sharp, blurred: opacities as they are seen without and with the lens.
    """
    # Of a splat of opacity FAINT as much is seen as of one of FAINT - 1/255 that is drawn to its end.
    share = blurred / (FAINT - reference.ALPHA_MIN)
    # Where a splat falls on [0, 1): fixed, so that films do not flicker, and spread evenly over the samples.
    number = torch.arange(len(blurred), dtype=torch.float64, device=blurred.device)
    place = (number * GOLDEN + index * GOLDEN**2).frac()
    drawn = torch.where(place < share, FAINT / blurred, 0)
    return torch.where((share < 1) & (sharp >= FAINT), drawn, 1)


@torch.no_grad()
def sharp_depth(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "H W"]:
    """Mean z-depth in scene units, infinite where nothing is."""
    g = gaussians
    render = rasterize(*g.activated(), g.sh0, g.shN, camera, antialiased=g.antialiased, with_depth=True)
    assert render.depths is not None
    return torch.where(render.alphas[0] > SOLID, render.depths[0], math.inf).cpu()


@torch.no_grad()
def depth_at(gaussians: Gaussians, camera: Camera, x: float, y: float) -> float:
    """Depth z in scene units of what the sharp view shows at a place of the picture.

    The transmittance-weighted median: half of what is seen there lies nearer, so that neither haze in front
    nor an edge shared with the background pulls it to a depth where nothing is.

    Args:
        x, y: px from the left and upper border; the first pixel's centre is at 0.5.

    Raises:
        InputError: the place lies outside the picture, or nothing is there.
    """
    if not (0 <= x <= camera.width and 0 <= y <= camera.height):
        raise InputError(
            f"({x:g}, {y:g}) lies outside the picture of {camera.width}x{camera.height} px: "
            "give x and y from the upper left corner."
        )
    depths, weights = along_ray(gaussians, camera, x, y)
    if weights.sum() < SOLID:
        raise InputError(f"There is nothing at ({x:g}, {y:g}): {_nearest_place(gaussians, camera, x, y)}")
    passed = weights.cumsum(0)
    return float(depths[torch.searchsorted(passed, passed[-1] / 2)])


def along_ray(
    gaussians: Gaussians, camera: Camera, x: float, y: float
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Depths of the splats met at (x, y), nearest first, and the share of the light that each one has."""
    ellipses = reference.project_set(*gaussians.activated(), camera, None, gaussians.antialiased)
    offsets = torch.tensor([x, y]).to(ellipses.means2d) - ellipses.means2d
    conics = reference.conic_of(ellipses.covars2d, ellipses.determinants)
    alpha = reference.splat_alpha(offsets[None], conics, ellipses.opacities)[0]
    met = alpha > 0
    depths, order = ellipses.local[met, 2].sort(stable=True)
    alpha = alpha[met][order]
    before = torch.cat([alpha.new_ones(1), (1 - alpha).cumprod(0)])[:-1]
    return depths, alpha * before


def _nearest_place(gaussians: Gaussians, camera: Camera, x: float, y: float) -> str:
    """Advice that names the nearest pixel where something is."""
    g = gaussians
    render = rasterize(*g.activated(), g.sh0, g.shN, camera, antialiased=g.antialiased)
    rows, columns = (render.alphas[0] > SOLID).nonzero(as_tuple=True)
    if len(rows) == 0:
        return "nothing is seen from there at all, choose another view."
    nearest = int(((columns + 0.5 - x).square() + (rows + 0.5 - y).square()).argmin())
    x, y = float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5
    share = f"{x / camera.width:.2%},{y / camera.height:.2%}"  # what --focus-at takes as it stands
    return f"the nearest place with something is ({x:g}, {y:g}), which is {share} of the picture."
