"""A pinhole camera, and every convention of the package.

- Axes are OpenCV's: x right, y down, z forward. `cam_from_world` (4x4) maps world to camera.
- `intrinsics = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]` in px, with the true principal point.
- Pixel centres lie at +0.5: the first pixel covers [0, 1) and is sampled at 0.5.
- Depth z runs along the optical axis, in scene units.
- `N` Gaussians, `M` CoC copies, `S = M + 1` sets, `C` cameras; quaternions are (w, x, y, z).
- `focus_distance` is the depth in focus, in scene units. `aperture_diameter` is in scene units, and
  `K` = aperture_diameter x fx, in px x scene unit, is what the lens formulas take; see `cocogs.optics.lens`.
- Images are (3, H, W), sRGB-encoded, in [0, 1].
- Shapes stand in the signatures (jaxtyping). One letter is one size throughout a call; `#M` is M or 1,
  `*P` any axes, `*#S` axes that broadcast, `_` whatever; `""` is a single number. Only the tests check them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Camera:
    """Where a photo was taken from and how it projects.

    Args:
        intrinsics: px.
        cam_from_world: rigid transform, rotation determinant +1.
        width: image width in px.
        height: image height in px.
    """

    intrinsics: Float[Tensor, "3 3"]
    cam_from_world: Float[Tensor, "4 4"]
    width: int
    height: int

    @property
    def fx(self) -> float:
        return float(self.intrinsics[0, 0])

    @property
    def fy(self) -> float:
        return float(self.intrinsics[1, 1])

    @property
    def cx(self) -> float:
        return float(self.intrinsics[0, 2])

    @property
    def cy(self) -> float:
        return float(self.intrinsics[1, 2])

    @cached_property
    def position(self) -> Float[Tensor, "3"]:
        """Camera centre in the world."""
        return -self.cam_from_world[:3, :3].T @ self.cam_from_world[:3, 3]

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The three rows of `cam_from_world` that matter, then fx, fy, cx, cy."""
        return (*self.cam_from_world[:3].flatten().tolist(), self.fx, self.fy, self.cx, self.cy)

    def pose_like(self, tensor: Tensor) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3"]]:
        """`cam_from_world` and `position` as a tensor is: kept, for on its way to a GPU a tensor waits."""
        kind = (tensor.dtype, tensor.device)
        if kind not in self._poses:
            self._poses[kind] = self.cam_from_world.to(tensor), self.position.to(tensor)
        return self._poses[kind]

    @cached_property
    def _poses(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]:
        return {}

    def depths(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, " *P"]:
        """z-depth of world points, in scene units; negative behind the camera."""
        row = self.cam_from_world[2].to(points)
        return points @ row[:3] + row[3]

    def local(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
        """World points along the camera's own axes, from its centre, scene units."""
        transform = self.cam_from_world.to(points)
        return points @ transform[:3, :3].T + transform[:3, 3]

    def project(self, points: Float[Tensor, "*P 3"]) -> tuple[Float[Tensor, "*P 2"], Float[Tensor, " *P"]]:
        """Pixel positions and z-depths of world points.

        Positions of points at or behind the camera are meaningless; look at the depth first.
        """
        local = self.local(points)
        pixels = local @ self.intrinsics.to(points).T
        return pixels[..., :2] / pixels[..., 2:], local[..., 2]

    def unproject(
        self, pixels: Float[Tensor, "*#P 2"], depths: Float[Tensor, "*#P"]
    ) -> Float[Tensor, "*P 3"]:
        """World points at pixel positions and z-depths: the inverse of `project`."""
        transform, K = self.cam_from_world.to(pixels), self.intrinsics.to(pixels)
        rays = F.pad(pixels, (0, 1), value=1.0) @ K.inverse().T
        return (rays * depths[..., None] - transform[:3, 3]) @ transform[:3, :3]

    def shows(self, pixels: Float[Tensor, "*P 2"], margin: float = 0) -> Bool[Tensor, " *P"]:
        """Whether pixel positions lie within the picture, more than `margin` px from its border."""
        x, y = pixels.unbind(-1)
        return (x > margin) & (x < self.width - margin) & (y > margin) & (y < self.height - margin)

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera sampled by another pixel grid."""
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, intrinsics=self.intrinsics * scale[:, None], width=width, height=height)


def pose_at(rotation: Float[Tensor, "3 3"], position: Float[Tensor, "3"]) -> Float64[Tensor, "4 4"]:
    """`cam_from_world` of a camera that stands at `position`; the rows of `rotation` are its axes."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation
    # numpy's product: torch's differs in the last bit, by which runs of before know their cameras again.
    pose[:3, 3] = torch.from_numpy(-rotation.numpy() @ position.numpy())
    return pose


def where_axes_meet(cameras: Sequence[Camera]) -> tuple[Float[Tensor, "3"], float]:
    """The point nearest to all optical axes, and the condition number of the search for it: large where the
    axes are parallel and it lies anywhere."""
    positions = torch.stack([camera.position.double() for camera in cameras])
    forward = torch.stack([camera.cam_from_world[2, :3].double() for camera in cameras])
    # Least squares: (I - f f^T) removes what lies along an axis.
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    normal, right = across.sum(0), (across @ positions[:, :, None]).sum(0)
    return torch.linalg.lstsq(normal, right).solution[:, 0], float(torch.linalg.cond(normal))
