"""How far away the splats' surface is in every pixel, and how sure that is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.gaussians import Gaussians, rotation_matrices, sh0_of
from cocogs.rasterize import rasterize
from cocogs.render.refocusing import SOLID

THINNEST = 0.3  # px; a splat counts as at least so thick, so that its plane stays within reach
SPREAD_LIMIT = 0.2  # spread from which a view tells nothing: an edge, or haze
STEEPEST = 8.0  # slope of a splat's plane, per unit of x/z and y/z, in parts of its 1/z


@dataclass(frozen=True)
class SurfaceView:
    """What one camera sees of the surface.

    Args:
        planes: of the surface in each pixel, in camera coordinates: q with q x = 1 for its points x, 1 /
            scene unit. With the pixel's ray r (z = 1), q r is 1/z. 0 where nothing is.
        spread: standard deviation of 1/z among what is seen, in parts of 1/z; infinite where nothing is.
    """

    camera: Camera
    planes: Float[Tensor, "3 H W"]
    spread: Float[Tensor, "H W"]

    @property
    def rays(self) -> Float[Tensor, "3 H W"]:
        """Directions with z = 1 through the pixel centres, in camera coordinates."""
        return rays(self.camera).to(self.planes)

    @property
    def inverse(self) -> Float[Tensor, "H W"]:
        """1/z of the surface; 0 where nothing is."""
        return (self.planes * self.rays).sum(0)

    @property
    def known(self) -> Bool[Tensor, "H W"]:
        """Where the view tells of the surface."""
        return self.spread < SPREAD_LIMIT


@torch.no_grad()
def surface_view(gaussians: Gaussians, camera: Camera) -> SurfaceView:
    """The mean of the splats' planes by what each shows, and how far their 1/z differ.

    The plane of a splat is where, along every ray, it is densest (to first order around its centre; Zhang et
    al., RaDe-GS, 2024). In a pixel's coordinates 1/z of a plane is linear, so means of planes are planes.
    """
    planes, inverse = _splat_planes(gaussians, camera)
    first, alpha = _drawn(gaussians, camera, planes)
    moments = torch.stack([inverse, inverse.square(), torch.zeros_like(inverse)], 1)
    second, _ = _drawn(gaussians, camera, moments)
    solid = alpha > SOLID
    mean, square = (second[:2] / alpha.clamp_min(SOLID)).unbind()
    spread = (square - mean.square()).clamp_min(0).sqrt() / mean.clamp_min(1e-20)
    q = first / alpha.clamp_min(SOLID)
    solid = solid & ((q * rays(camera).to(q)).sum(0) > 0)
    return SurfaceView(camera, torch.where(solid, q, 0).cpu(), torch.where(solid, spread, torch.inf).cpu())


def rays(camera: Camera) -> Float[Tensor, "3 H W"]:
    """Directions with z = 1 through the pixel centres, in camera coordinates."""
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)])


def _splat_planes(gaussians: Gaussians, camera: Camera) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """q of every splat, and 1/z of its centre; 0 behind the camera. For a splat with centre m and precision
    matrix P in camera coordinates, q = P m / (m P m)."""
    means, quats, scales, _ = gaussians.activated()
    axes = camera.cam_from_world.to(means)[:3, :3] @ rotation_matrices(F.normalize(quats, dim=-1))
    local = camera.local(means)
    z = local[:, 2].clamp_min(camera.near)
    variances = scales.square() + (THINNEST * z / camera.fx).square()[:, None]
    along = torch.einsum("nij,ni->nj", axes, local) / variances
    across = torch.einsum("nij,nj->ni", axes, along)
    planes = across / (across * local).sum(-1, keepdim=True)
    limit = (STEEPEST / z)[:, None]
    seen = local[:, 2] > camera.near
    return planes.clamp(-limit, limit) * seen[:, None], seen / z


def _drawn(
    gaussians: Gaussians, camera: Camera, values: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """Three numbers of the splats added up as colours are, and alpha."""
    lowest = values.amin(0)  # colours are not negative
    picture = rasterize(
        *gaussians.activated(), sh0_of(values - lowest), torch.zeros_like(gaussians.shN), camera,
        sh_degree=0, antialiased=gaussians.antialiased,
    )  # fmt: skip
    alpha = picture.alphas[0]
    return picture.colors[0] + lowest[:, None, None] * alpha, alpha
