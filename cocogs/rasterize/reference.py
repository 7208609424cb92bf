"""The rasterizer as a specification: plain torch, any float dtype, autograd for the gradients.

It is written to be read, and slow: it blends every splat at every pixel. The native code (`cuda_ext/math`)
uses the same function names, and the tests compare it with this file. Source: Kerbl et al., *3D Gaussian
Splatting*, 2023, and Zwicker et al., *EWA Splatting*, 2002. What the two leave open follows gsplat 1.5.3's
classic mode. Two things are our own: `blur` (see `add_blur`), and view limits measured from the true
principal point (see `Camera.slope_limits`).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.functional import pad

from cocogs.camera import Camera
from cocogs.rasterize.constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    CLASSIC,
    DEPTH_ALPHA_MIN,
    TRANSMITTANCE_MIN,
    pixel_filter,
)
from cocogs.rasterize.reference_harmonics import eval_sh

# Pixels composited together; only limits the memory.
_PIXELS_AT_ONCE = 1024


def quat_to_rotation(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Rotation matrices of quaternions in wxyz order and of any positive length."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def covariance_factor(quats: Float[Tensor, "N 4"], scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3 3"]:
    """Factors F of the covariances F F^T, for scales >= 0."""
    return quat_to_rotation(quats) * scales[:, None, :]


def project_ewa(
    local: Float[Tensor, "N 3"], factors: Float[Tensor, "N 3 3"], camera: Camera, dilation: float = CLASSIC[0]
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Project ellipsoids to the image, to first order around their means, and dilate them.

    The derivative of the projection grows without bound towards the sides. It is therefore taken at x/z and
    y/z clamped to `camera.slope_limits`.

    Args:
        local: means in camera coordinates, z > 0.
        factors: F of the covariances F F^T in world coordinates, in scene units.
        dilation: px^2.

    Returns:
        means2d in px; covars2d in px^2, the entries xx, xy, yy; determinants in px^4. The determinants are
        separate because xx yy - xy^2 cancels for needles.
    """
    z = local[:, 2]
    slope_x, slope_y = local[:, 0] / z, local[:, 1] / z
    means2d = torch.stack([camera.fx * slope_x + camera.cx, camera.fy * slope_y + camera.cy], -1)

    low_x, high_x, low_y, high_y = camera.slope_limits
    slope_x, slope_y = slope_x.clamp(low_x, high_x), slope_y.clamp(low_y, high_y)

    axes = camera.pose_like(local)[0][:, :3] @ factors
    axes_x = camera.fx / z[:, None] * (axes[:, 0] - slope_x[:, None] * axes[:, 2])
    axes_y = camera.fy / z[:, None] * (axes[:, 1] - slope_y[:, None] * axes[:, 2])

    products = torch.stack([axes_x * axes_x, axes_x * axes_y, axes_y * axes_y], -2)
    # Lagrange's identity: |u|^2 |v|^2 - (u.v)^2 = |u x v|^2, which cannot come out negative.
    determinants = torch.linalg.cross(axes_x, axes_y).square().sum(-1)
    return means2d, *widen(products.sum(-1), determinants, dilation)


def widen(
    covars2d: Float[Tensor, "N 3"], determinants: Float[Tensor, " N"], variances: Float[Tensor, " N"] | float
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Add isotropic variances >= 0 in px^2 to covariances; return these and their determinants."""
    xx, xy, yy = covars2d.unbind(-1)
    wider = torch.stack([xx + variances, xy, yy + variances], -1)
    return wider, determinants + variances * (xx + yy + variances)


def add_blur(
    covars2d: Float[Tensor, "N 3"],
    determinants: Float[Tensor, " N"],
    opacities: Float[Tensor, " N"],
    blur: Float[Tensor, " N"] | float,
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Widen splats by a blur >= 0 in px^2 per axis and keep the integral of each.

    The integral is 2 pi opacity sqrt(determinant). Returns the new covars2d, determinants and opacities.
    """
    covars2d, blurred = widen(covars2d, determinants, blur)
    return covars2d, blurred, opacities * (determinants / blurred).sqrt()


def conic_of(covars2d: Float[Tensor, "N 3"], determinants: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
    """Inverses of covariances, the entries xx, xy, yy."""
    xx, xy, yy = covars2d.unbind(-1)
    return torch.stack([yy, -xy, xx], -1) / determinants[:, None]


def squared_reach(opacities: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Squared distance, in standard deviations, where alpha has fallen to `ALPHA_MIN`, at least 0."""
    return 2 * (opacities.clamp_min(ALPHA_MIN) / ALPHA_MIN).log()


def splat_alpha(
    offsets: Float[Tensor, "P N 2"], conics: Float[Tensor, "N 3"], opacities: Float[Tensor, " N"]
) -> Float[Tensor, "P N"]:
    """Alpha of N splats at P pixels; 0 where it would be under `ALPHA_MIN`.

    Args:
        offsets: pixel centre minus mean, in px.
        conics: inverse covariances in px^-2, the entries xx, xy, yy.
        opacities: in [0, 1].
    """
    dx, dy = offsets.unbind(-1)
    sigma = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alpha = (opacities * (-sigma).exp()).clamp_max(ALPHA_MAX)
    return alpha.where(alpha >= ALPHA_MIN, 0)


def blend_weights(alpha: Float[Tensor, "P N"]) -> tuple[Float[Tensor, "P N"], Float[Tensor, " P"]]:
    """The weights of N splats at P pixels, and the transmittance that is left.

    Transmittance only falls, so a pixel draws exactly the splats that leave it at `TRANSMITTANCE_MIN` or
    above.

    Args:
        alpha: nearest splat first.
    """
    drawn = (1 - alpha.detach()).cumprod(1) >= TRANSMITTANCE_MIN
    alpha = alpha.where(drawn, 0)
    transmittance = torch.cat([alpha.new_ones(len(alpha), 1), (1 - alpha).cumprod(1)], 1)
    return alpha * transmittance[:, :-1], transmittance[:, -1]


def ranked(
    weights: Float[Tensor, "P N"], ids: Int[Tensor, " N"], count: int
) -> tuple[Int[Tensor, "P {count}"], Float[Tensor, "P {count}"]]:
    """The ids and weights of the largest weights, the largest first; of equal ones the nearer first.

    Args:
        weights: nearest splat first.
    """
    missing = max(count - weights.shape[1], 0)
    largest, places = pad(weights, (0, missing)).sort(dim=1, descending=True, stable=True)
    largest, places = largest[:, :count], places[:, :count]
    return pad(ids, (0, missing))[places].where(largest > 0, -1), largest


def pixel_centres(width: int, height: int) -> Float64[Tensor, "{width*height} 2"]:
    """x, y of the pixel centres, row by row."""
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = torch.arange(height, dtype=torch.float64) + 0.5
    return torch.cartesian_prod(y, x).flip(-1)


class PullOfPixels(torch.autograd.Function):
    """Expands zeros (N, 2) to P pixels, (P, N, 2). The backward pass adds up the lengths of the pixels'
    gradients, so that pulls to opposite sides do not cancel (AbsGS)."""

    @staticmethod
    def forward(ctx, probe: Tensor, pixels: int) -> Tensor:
        return probe.expand(pixels, *probe.shape)

    @staticmethod
    def backward(ctx, *v: Tensor) -> tuple[Tensor, None]:
        return v[0].abs().sum(0), None


class Shown(NamedTuple):
    """The D splats of a set that are drawn, nearest first.

    Attributes:
        ids: their indices in the set.
        depths: scene units.
        means2d: px.
        extents: half width and height of the box around the visible ellipse, px.
        conics: inverse covariances (xx, xy, yy) in px^-2.
        opacities: lowered by the blur.
    """

    ids: Int[Tensor, " D"]
    depths: Float[Tensor, " D"]
    means2d: Float[Tensor, "D 2"]
    extents: Float[Tensor, "D 2"]
    conics: Float[Tensor, "D 3"]
    opacities: Float[Tensor, " D"]


def shown_splats(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    camera: Camera,
    blur: Float[Tensor, " N"] | None,
    shift: Float[Tensor, "N 2"] | None,
    antialiased: bool,
) -> Shown:
    """From a set's Gaussians to what is drawn of them; arguments as `rasterize`, without the leading S."""
    all_local = camera.local(means)
    # Splats that are not drawn are removed before the division by z, so that their gradients are zero, not
    # NaN.
    front = (all_local[:, 2] > camera.near).nonzero()[:, 0]
    local = all_local[front]
    factors = covariance_factor(quats[front], scales[front])
    dilation, pixel_blur = pixel_filter(antialiased)
    means2d, covars2d, determinants = project_ewa(local, factors, camera, dilation)
    if shift is not None:
        means2d = means2d + shift[front]
    all_blur = pixel_blur + (0 if blur is None else blur[front])
    covars2d, determinants, opacities = add_blur(covars2d, determinants, opacities[front], all_blur)

    extents = (squared_reach(opacities)[:, None] * covars2d[:, [0, 2]]).detach().sqrt()
    size = torch.tensor([camera.width, camera.height]).to(means)
    inside = ((means2d + extents > 0) & (means2d - extents < size)).all(-1)
    drawn = ((opacities >= ALPHA_MIN) & inside).nonzero()[:, 0]
    drawn = drawn[local[drawn, 2].argsort(stable=True)]
    conics = conic_of(covars2d[drawn], determinants[drawn])
    return Shown(front[drawn], local[drawn, 2], means2d[drawn], extents[drawn], conics, opacities[drawn])


def weights_at_pixels(
    shown: Shown, camera: Camera, means2d_probe: Float[Tensor, "N 2"] | None = None
) -> Iterator[tuple[Float[Tensor, "P D"], Float[Tensor, " P"]]]:
    """`blend_weights` at all pixels, row by row, some at a time."""
    for pixels in pixel_centres(camera.width, camera.height).to(shown.means2d).split(_PIXELS_AT_ONCE):
        offsets = pixels[:, None] - shown.means2d
        if means2d_probe is not None:
            offsets = offsets - PullOfPixels.apply(means2d_probe[shown.ids], len(pixels))
        yield blend_weights(splat_alpha(offsets, shown.conics, shown.opacities))


def rasterize_set(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    sh0: Float[Tensor, "N 1 3"],
    shN: Float[Tensor, "N 15 3"],
    camera: Camera,
    blur: Float[Tensor, " N"] | None,
    shift: Float[Tensor, "N 2"] | None,
    sh_degree: int,
    background: Float[Tensor, "3"],
    antialiased: bool,
    means2d_probe: Float[Tensor, "N 2"] | None,
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, " N"]]:
    """Render one set of N splats; arguments as `rasterize`, without the leading S.

    Returns:
        colors, alphas, depths, radii.
    """
    height, width = camera.height, camera.width
    shown = shown_splats(means, quats, scales, opacities, camera, blur, shift, antialiased)
    radii = means.new_zeros(len(means)).index_put((shown.ids,), shown.extents.amax(-1))

    directions = means[shown.ids] - camera.pose_like(means)[1]
    colors = eval_sh(sh_degree, directions, sh0[shown.ids], shN[shown.ids])
    values = torch.cat([colors, shown.depths[:, None]], -1)
    parts = [(weights @ values, rest) for weights, rest in weights_at_pixels(shown, camera, means2d_probe)]
    sums = torch.cat([part[0] for part in parts])
    transmittance = torch.cat([part[1] for part in parts])

    image = sums[:, :3] + transmittance[:, None] * background
    alphas = 1 - transmittance
    depths = sums[:, 3] / alphas.clamp_min(DEPTH_ALPHA_MIN)
    return image.T.reshape(3, height, width), alphas.view(height, width), depths.view(height, width), radii


def contributors(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    camera: Camera,
    blur: Float[Tensor, " N"] | None,
    antialiased: bool,
    count: int,
) -> tuple[Int[Tensor, "{count} H W"], Float[Tensor, "{count} H W"]]:
    """Ids and weights as `cocogs.rasterize.contributors.contributors` gives them."""
    shown = shown_splats(means, quats, scales, opacities, camera, blur, None, antialiased)
    parts = [ranked(weights, shown.ids, count) for weights, _ in weights_at_pixels(shown, camera)]
    ids, weights = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    shape = count, camera.height, camera.width
    return ids.T.reshape(shape), weights.T.reshape(shape)


def rasterize(
    means: Float[Tensor, "S N 3"],
    quats: Float[Tensor, "S N 4"],
    scales: Float[Tensor, "S N 3"],
    opacities: Float[Tensor, "S N"],
    sh0: Float[Tensor, "N 1 3"],
    shN: Float[Tensor, "N 15 3"],
    camera: Camera,
    blur: Float[Tensor, "S N"] | None,
    shift: Float[Tensor, "S N 2"] | None,
    sh_degree: int,
    background: Float[Tensor, "3"],
    antialiased: bool,
    with_depth: bool,
    means2d_probe: Float[Tensor, "S N 2"] | None,
) -> tuple[
    Float[Tensor, "S 3 H W"], Float[Tensor, "S H W"], Float[Tensor, "S H W"] | None, Float[Tensor, "S N"]
]:
    """Render S sets of N splats; every tensor of one floating dtype and on one device.

    Args:
        means: in scene units.
        quats: wxyz, of any positive length.
        scales: standard deviations in scene units, >= 0.
        opacities: >= 0. Above 1, a larger part of the splat is opaque; no alpha exceeds `ALPHA_MAX`.
        sh0, shN: colour coefficients, shared by all sets. Colours that are NaN make pixels NaN.
        blur: px^2 >= 0 added to each projected variance at equal integral, or None for 0.
        shift: px by which each projected mean is moved, or None for 0.
        sh_degree: 0..3, the highest band that is used.
        background: colour behind all splats.
        antialiased: the pixel filter is `ANTIALIASED`, not `CLASSIC`.
        with_depth: also return the expected z-depth.
        means2d_probe: zeros whose gradient is the pixels' pull at the projected means in 1/px, or None.

    Returns:
        colors, alphas, depths or None, radii in px.
    """
    sets = []
    for index in range(len(means)):
        own = means[index], quats[index], scales[index], opacities[index]
        set_blur, set_shift, probe = (None if t is None else t[index] for t in (blur, shift, means2d_probe))
        seen = camera, set_blur, set_shift, sh_degree, background, antialiased, probe
        sets.append(rasterize_set(*own, sh0, shN, *seen))
    colors, alphas, depths, radii = (torch.stack(parts) for parts in zip(*sets, strict=True))
    return colors, alphas, depths if with_depth else None, radii
