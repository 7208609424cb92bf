"""The same call through gsplat 1.5.3: an independent implementation for the tests to compare with.

gsplat's torch functions project and colour, on a CPU. Its compositing needs CUDA, so a loop over the splats
in this file composites. (scripts/bench_cuda.py compares with gsplat's own rasterizer on a GPU.)

Where gsplat differs from `reference`:
- no blur, no shift;
- `radii` are gsplat's: 3.33 standard deviations, rounded up, whatever the opacity;
- its determinant is xx yy - xy^2, at least 1e-10, so extremely long needles look different;
- no view limits of a larger picture: it takes a cropped camera's picture for the whole view.
"""

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.rasterize.constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    DEPTH_ALPHA_MIN,
    TRANSMITTANCE_MIN,
    pixel_filter,
)
from cocogs.rasterize.reference import PullOfPixels


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh0: Tensor,
    shN: Tensor,
    camera: Camera,
    blur: Tensor | None,
    shift: Tensor | None,
    sh_degree: int,
    background: Tensor,
    antialiased: bool,
    with_depth: bool,
    means2d_probe: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Render S sets of N splats; arguments as `cocogs.rasterize.reference.rasterize`.

    Raises:
        ValueError: blur or shift is given, or the tensors are on a GPU.
        ImportError: gsplat is not installed.
    """
    if blur is not None or shift is not None:
        raise ValueError("The gsplat backend has no blur and no shift: choose another backend.")
    if means.is_cuda:
        raise ValueError("The gsplat backend takes CPU tensors: choose another backend.")
    coefficients = torch.cat([sh0, shN], dim=1)
    sets = []
    for index in range(len(means)):
        own = means[index], quats[index], scales[index], opacities[index], coefficients
        probe = None if means2d_probe is None else means2d_probe[index]
        sets.append(_render_set(*own, camera, sh_degree, background, antialiased, probe))
    colors, alphas, depths, radii = (torch.stack(parts) for parts in zip(*sets, strict=True))
    return colors, alphas, depths if with_depth else None, radii


def _render_set(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    coefficients: Tensor,
    camera: Camera,
    sh_degree: int,
    background: Tensor,
    antialiased: bool,
    means2d_probe: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from gsplat.cuda._torch_impl import (
        _fully_fused_projection,
        _quat_scale_to_covar_preci,
        _spherical_harmonics,
    )

    pose, position = camera.pose_like(means)
    # gsplat's torch projection divides by the depth before it looks at it.
    front = (camera.depths(means.detach()) > camera.near).nonzero()[:, 0]
    covars, _ = _quat_scale_to_covar_preci(quats[front], scales[front], compute_preci=False)
    assert covars is not None
    dilation, blur = pixel_filter(antialiased)
    radii, means2d, depths, conics, _ = _fully_fused_projection(
        means[front],
        covars,
        torch.cat([pose, pose.new_tensor([[0, 0, 0, 1]])])[None],
        camera.intrinsics.to(means)[None],
        camera.width,
        camera.height,
        eps2d=dilation + blur,
        near_plane=camera.near,
    )
    radii, means2d, depths, conics = radii[0].amax(-1), means2d[0], depths[0], conics[0]
    directions = means[front] - position
    colors = (_spherical_harmonics(sh_degree, directions, coefficients[front]) + 0.5).clamp_min(0)

    nearest_first = depths.argsort(stable=True)
    nearest_first = nearest_first[radii[nearest_first] > 0]
    image, transmittance = _composite(
        means2d[nearest_first],
        conics[nearest_first],
        (opacities[front] * _share_kept(conics, blur))[nearest_first],
        torch.cat([colors, depths[:, None]], dim=-1)[nearest_first],
        camera,
        None if means2d_probe is None else means2d_probe[front[nearest_first]],
    )
    alphas = 1 - transmittance
    all_radii = means.new_zeros(len(means))
    all_radii[front] = radii.to(means)
    return (
        image[:3] + transmittance * background[:, None, None],
        alphas,
        image[3] / alphas.clamp_min(DEPTH_ALPHA_MIN),
        all_radii,
    )


def _share_kept(conics: Tensor, blur: float) -> Tensor:
    """Factors (N,) on the opacities that keep the integrals, for a blur in px^2 that `conics` already
    includes."""
    xx, xy, yy = conics.unbind(-1)
    # With C the covariance: det(C - blur) / det(C), by the entries of its inverse.
    return (1 - blur * (xx + yy) + blur**2 * (xx * yy - xy**2)).clamp_min(0).sqrt()


def _composite(
    means2d: Tensor, conics: Tensor, opacities: Tensor, values: Tensor, camera: Camera, probe: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sums (4, H, W) of the splats' values and the transmittance (H, W); nearest splat first."""
    columns = torch.arange(camera.width).to(means2d) + 0.5
    rows = torch.arange(camera.height).to(means2d)[:, None] + 0.5
    transmittance = means2d.new_ones(camera.height, camera.width)
    sums = means2d.new_zeros(4, camera.height, camera.width)
    alive = torch.ones_like(transmittance, dtype=torch.bool)
    if probe is None:
        probe = torch.zeros_like(means2d)
    for (x, y), (a, b, c), opacity, value, own in zip(means2d, conics, opacities, values, probe, strict=True):
        pull = PullOfPixels.apply(own, transmittance.numel()).view(*transmittance.shape, 2)
        dx, dy = columns - x - pull[..., 0], rows - y - pull[..., 1]
        falloff = torch.exp(-(a * dx**2 + 2 * b * dx * dy + c * dy**2) / 2)
        alpha = (opacity * falloff).clamp(max=ALPHA_MAX)
        touched = alive & (alpha >= ALPHA_MIN)
        ends = touched & (transmittance * (1 - alpha) < TRANSMITTANCE_MIN)
        alive, touched = alive & ~ends, touched & ~ends
        alpha = torch.where(touched, alpha, torch.zeros_like(alpha))
        sums = sums + value[:, None, None] * (transmittance * alpha)
        transmittance = transmittance * (1 - alpha)
    return sums, transmittance
