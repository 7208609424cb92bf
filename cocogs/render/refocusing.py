"""The scene through a lens that the user sets: any focus, any aperture, round or bladed.

There are two qualities. Interactive: one render, every splat widened by its circle of confusion. Final: N
sharp renders from points of the aperture, each re-aimed so that the plane in focus stays put, averaged in
linear light; near things then hide far ones as they do behind a real lens.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError, check_number
from cocogs.gaussians import Gaussians, cross_section
from cocogs.optics.aperture import lens_samples
from cocogs.optics.copies import widen
from cocogs.optics.lens import Lens, blur_variance
from cocogs.rasterize import rasterize
from cocogs.rasterize.constants import ALPHA_MIN, pixel_filter
from cocogs.render.shares import light_shares
from cocogs.srgb import compress_highlights, expand_highlights, to_linear, to_srgb

OVERLAP = 2.0  # of the sub-apertures: at 1, highlights far out of focus show the separate samples
FAINT = 4 / 255  # blurred opacity below which only some of the splats are drawn
MOST_SAMPLES = 4096
GOLDEN = (5**0.5 - 1) / 2
SOLID = 0.5  # alpha from which a pixel shows something rather than the background


@torch.no_grad()
def refocus(
    gaussians: Gaussians,
    camera: Camera,
    lens: Lens,
    samples: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Float[Tensor, "3 H W"]:
    """The scene through `lens`: sRGB-encoded, 0 or more, not clamped at 1.

    With `lens.aperture_diameter` 0 both qualities give exactly the sharp view.

    Args:
        samples: 0 for interactive quality, which ignores blades and highlights; else the number of points of
            the aperture. Time grows with it, memory does not. 16 come close (docs/benchmarks.md), 64 do;
            small highlights spread over 50 px and more need 256.
        check: called before each sample; may raise, to abandon a picture that is no longer wanted.

    Raises:
        InputError: `samples` or the lens is out of range.
    """
    if not _is_sampled(camera, lens, samples):
        return _at_once(gaussians, camera, lens)
    light = light_through(gaussians, camera, lens, samples, check)
    return to_srgb(compress_highlights(light, lens.highlights))


@torch.no_grad()
def light_through(
    gaussians: Gaussians,
    camera: Camera,
    lens: Lens,
    samples: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Float[Tensor, "3 H W"]:
    """The same as linear light, with the highlights as bright as `lens.highlights` says."""
    if not _is_sampled(camera, lens, samples):
        return to_linear(_at_once(gaussians, camera, lens))
    overlap = min(OVERLAP, samples)
    coc = lens.of(camera).coc(camera.depths(gaussians.means))
    blur = blur_variance(coc * math.sqrt(overlap / samples))
    light = gaussians.means.new_zeros(3, camera.height, camera.width)
    points = lens_samples(samples, overlap, lens.blades, lens.blade_rotation, settled=True)
    for index, point in enumerate(points):
        check()
        shown = to_linear(_render(gaussians, seen_from(camera, lens, point), blur, index))
        light += expand_highlights(shown, lens.highlights)
    return light / samples


def _is_sampled(camera: Camera, lens: Lens, samples: int) -> bool:
    """Whether points of the aperture are drawn.

    Raises:
        InputError: `samples` or the lens is out of range.
    """
    check_number("samples", samples, least=0, most=MOST_SAMPLES, whole=True)
    lens.check_range(camera)
    return samples > 0 and lens.aperture_diameter > 0


def _at_once(gaussians: Gaussians, camera: Camera, lens: Lens) -> Float[Tensor, "3 H W"]:
    """One render, every splat widened: sRGB-encoded."""
    copies = widen(gaussians.activated(), camera, lens.of(camera))
    assert copies.blur is not None
    return _render(gaussians, camera, copies.blur[0])


def seen_from(camera: Camera, lens: Lens, point: Float[Tensor, "2"]) -> Camera:
    """The pinhole camera at `point` of the aperture (x right, y down, in aperture radii), re-aimed by
    its principal point so that the plane in focus stays where it is in the picture."""
    offset = point.to(camera.intrinsics) * lens.aperture_diameter / 2
    transform, intrinsics = camera.cam_from_world.clone(), camera.intrinsics.clone()
    transform[:2, 3] -= offset
    intrinsics[:2, 2] += offset * intrinsics.diagonal()[:2] / lens.focus_distance
    return replace(camera, intrinsics=intrinsics, cam_from_world=transform)


def _render(
    gaussians: Gaussians, camera: Camera, blur: Float[Tensor, " N"], index: int = 0
) -> Float[Tensor, "3 H W"]:
    """The scene with every splat widened by `blur` px^2; `index` numbers the samples of a picture."""
    means, quats, scales, opacities = gaussians.activated()
    px_per_unit = camera.fx / camera.depths(means).clamp_min(camera.near)
    g, (dilation, pixel_blur) = gaussians, pixel_filter(gaussians.antialiased)
    area = cross_section(scales) * px_per_unit.square() + dilation
    sharp, blurred = (opacities * area / (area + pixel_blur + more) for more in (0, blur))
    splats = means, quats, scales, opacities * _thinned(sharp, blurred, index), g.sh0, g.shN
    return rasterize(*splats, camera, blur=blur, antialiased=g.antialiased).colors[0]


def _thinned(sharp: Float[Tensor, " N"], blurred: Float[Tensor, " N"], index: int) -> Float[Tensor, " N"]:
    """Factors of the opacities (which may then exceed 1), 0 for splats that are left out.

    The rasterizer does not draw a splat that is so wide that its opacity falls below 1/255; a scene of such
    splats would vanish. Of splats that faint, a part is drawn instead, stronger in proportion: the same light
    in less time.

    Args:
        sharp, blurred: opacities as they are seen without and with the lens.
    """
    # A splat of opacity FAINT, cut off at 1/255, shows as much as one of FAINT - 1/255 that is not cut off.
    share = blurred / (FAINT - ALPHA_MIN)
    # The place of a splat on [0, 1): fixed, so that films do not flicker, and evenly spread over the samples.
    number = torch.arange(len(blurred), dtype=torch.float64, device=blurred.device)
    place = (number * GOLDEN + index * GOLDEN**2).frac()
    drawn = torch.where(place < share, FAINT / blurred, 0)
    return torch.where((share < 1) & (sharp >= FAINT), drawn, 1)


def sharp_picture(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "3 H W"]:
    """The scene with everything in focus, on the CPU: sRGB-encoded, in [0, 1]."""
    return refocus(gaussians, camera, Lens(1.0, 0.0)).clamp(0, 1).cpu()


@torch.no_grad()
def sharp_depth(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "H W"]:
    """Mean z-depth of the sharp view in scene units, infinite where nothing is."""
    g = gaussians
    render = rasterize(*g.activated(), g.sh0, g.shN, camera, antialiased=g.antialiased, with_depth=True)
    assert render.depths is not None
    return torch.where(render.alphas[0] > SOLID, render.depths[0], math.inf).cpu()


def coc_of(depths: Float[Tensor, "H W"], camera: Camera, lens: Lens) -> Float[Tensor, "H W"]:
    """Signed diameter of the circle of confusion, px, at depths from `sharp_depth`; 0 where nothing is."""
    return torch.where(depths.isfinite(), lens.of(camera).coc(depths), 0)


@torch.no_grad()
def depth_at(gaussians: Gaussians, camera: Camera, x: float, y: float) -> float:
    """z-depth in scene units of what the sharp view shows at a point of the picture.

    This is the median weighted by transmittance: half of what is seen there lies nearer. Haze in front, or an
    edge, would pull a mean to a depth where nothing is.

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
    depths, weights, _ = along_ray(gaussians, camera, x, y)
    if weights.sum() < SOLID:
        raise InputError(f"There is nothing at ({x:g}, {y:g}): {_nearest_place(gaussians, camera, x, y)}")
    passed = weights.cumsum(0)
    return float(depths[torch.searchsorted(passed, passed[-1] / 2)])


def along_ray(
    gaussians: Gaussians, camera: Camera, x: float, y: float
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"], Int64[Tensor, " P"]]:
    """Of the splats that are seen at (x, y), nearest first: z-depths, the share of each in the pixel, and
    their indices."""
    column, row = min(int(x), camera.width - 1), min(int(y), camera.height - 1)
    pixel = camera.cropped(column, row, 1, 1)
    intrinsics = pixel.intrinsics.clone()
    shift = intrinsics.new_tensor([column + 0.5 - x, row + 0.5 - y])  # the pixel's centre then looks there
    intrinsics[:2, 2] += shift
    aimed = replace(pixel, intrinsics=intrinsics)
    shares = light_shares(gaussians, aimed, gaussians.means.new_ones(3, 1, 1))[0]
    met = (shares > 0).nonzero()[:, 0]
    depths, order = camera.depths(gaussians.means[met]).sort(stable=True)
    return depths, shares[met][order], met[order]


def _nearest_place(gaussians: Gaussians, camera: Camera, x: float, y: float) -> str:
    """Advice that gives the nearest pixel where something is."""
    rows, columns = sharp_depth(gaussians, camera).isfinite().nonzero(as_tuple=True)
    if len(rows) == 0:
        return "nothing is seen from there at all, choose another view."
    nearest = int(((columns + 0.5 - x).square() + (rows + 0.5 - y).square()).argmin())
    x, y = float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5
    share = f"{x / camera.width:.2%},{y / camera.height:.2%}"  # the option focus_at takes this
    return f"the nearest place with something is ({x:g}, {y:g}), which is {share} of the picture."
