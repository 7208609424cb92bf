"""A pinhole camera, and every convention of the package.

- Axes follow OpenCV: x right, y down, z forward. `cam_from_world` (4x4) maps world to camera.
- `intrinsics = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]` in px, with the true principal point.
- Pixel centres lie at +0.5: the first pixel covers [0, 1) and is sampled at 0.5.
- Depth z is measured along the optical axis, in scene units.
- `N` Gaussians, `M` CoC copies, `S = M + 1` sets, `C` cameras; quaternions are (w, x, y, z).
- `focus_distance` is the depth in focus, in scene units. `aperture_diameter` is in scene units, and the lens
  formulas take `K` = aperture_diameter x fx, in px x scene unit; see `cocogs.optics.lens`.
- Images are (3, H, W), sRGB-encoded, in [0, 1].
- Signatures state shapes (jaxtyping). One letter is one size throughout a call; `#M` is M or 1,
  `*P` any axes, `*#S` axes that broadcast, `_` any size; `""` is a single number. Only the tests check them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor
from torch.nn import functional as F

from cocogs.plain_torch import serves_gradients

NEAR_PLANE = 0.01
"""Default of `Camera.near`, in scene units."""
VIEW_MARGIN = 0.15
"""How far outside the view, as a part of its size on each side, a splat's shape still follows its
position."""


@dataclass(frozen=True)
class Camera:
    """Where a photo was taken from and how it projects.

    Args:
        intrinsics: in px; both focal lengths are positive.
        cam_from_world: rigid transform, rotation determinant +1.
        width: image width in px, at least 1.
        height: image height in px, at least 1.
        near: the rasterizer draws no splat whose centre lies at this depth or nearer; scene units, positive.
        full_view: left, top, right and bottom of the view that this picture was cropped from, in px of this
            picture. None = this picture is the whole view. See `cropped`.
        place: where the camera stands, read when a picture is drawn: 15 numbers as `place_like` gives them,
            on the device and in the type of what is drawn. A recorded training step finds one photo after
            another there. None: where `cam_from_world` tells.

    Raises:
        ValueError: an argument is not finite or out of its range.
    """

    intrinsics: Float[Tensor, "3 3"]
    cam_from_world: Float[Tensor, "4 4"]
    width: int
    height: int
    near: float = NEAR_PLANE
    full_view: tuple[float, float, float, float] | None = None
    place: Float[Tensor, "15"] | None = None

    def __post_init__(self) -> None:
        if not bool(self.intrinsics.isfinite().all()) or not (self.fx > 0 and self.fy > 0):
            raise ValueError(
                f"The camera's focal lengths must be positive and its intrinsics finite, not "
                f"{self.intrinsics.tolist()}."
            )
        if not bool(self.cam_from_world.isfinite().all()):
            raise ValueError(f"The camera's pose must be finite, not {self.cam_from_world.tolist()}.")
        if bool(self.intrinsics[0, 1]) or bool(self.intrinsics[1, 0]):
            raise ValueError(f"The camera's intrinsics must have no skew, not {self.intrinsics.tolist()}.")
        if self.place is not None and self.place.shape != (15,):
            raise ValueError(f"The camera's place must be 15 numbers, not {tuple(self.place.shape)}.")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"The camera's picture must measure at least 1x1 px, not {self.width}x{self.height}."
            )
        if not (self.near > 0 and math.isfinite(self.near)):
            raise ValueError(f"The camera's near plane must be positive and finite, not {self.near}.")
        if self.full_view is not None:
            left, top, right, bottom = self.full_view
            if not (all(map(math.isfinite, self.full_view)) and left < right and top < bottom):
                raise ValueError(
                    f"The camera's full view must have a finite, positive size: {self.full_view}."
                )

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
    @serves_gradients
    def position(self) -> Float[Tensor, "3"]:
        """Camera centre in the world, by `cam_from_world`."""
        return position_of(self.cam_from_world)

    @cached_property
    def slope_limits(self) -> tuple[float, float, float, float]:
        """Limits of x/z (low, high) and of y/z (low, high) at which the projection is linearised.

        The derivative of the projection grows without bound towards the sides. The rasterizer therefore
        takes it no farther outside the full view than `VIEW_MARGIN` of the view's size.
        """
        left, top, right, bottom = self.full_view or (0.0, 0.0, float(self.width), float(self.height))
        margin_x, margin_y = VIEW_MARGIN * (right - left), VIEW_MARGIN * (bottom - top)
        return (
            (left - self.cx - margin_x) / self.fx,
            (right - self.cx + margin_x) / self.fx,
            (top - self.cy - margin_y) / self.fy,
            (bottom - self.cy + margin_y) / self.fy,
        )

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """What the native rasterizer takes: the first three rows of `cam_from_world` (12 numbers),
        `position`, fx, fy, cx, cy, near, and the four `slope_limits`."""
        place = (*self.cam_from_world[:3].flatten().tolist(), *self.position.tolist())
        return (*place, self.fx, self.fy, self.cx, self.cy, self.near, *self.slope_limits)

    def place_like(self, tensor: Tensor) -> Float[Tensor, "15"]:
        """The first three rows of the pose and the camera's position: `place`, or with the dtype and on the
        device of `tensor`. The camera keeps them, because each copy to a GPU would wait for it."""
        if self.place is not None:
            return self.place
        kind = (tensor.dtype, tensor.device)
        if kind not in self._places:
            self._places[kind] = self._make_place(tensor)
        return self._places[kind]

    @serves_gradients
    def _make_place(self, like: Tensor) -> Float[Tensor, "15"]:
        return torch.cat([self.cam_from_world[:3].flatten(), self.position]).to(like)

    @cached_property
    def _places(self) -> dict[tuple[torch.dtype, torch.device], Tensor]:
        return {}

    def pose_like(self, tensor: Tensor) -> tuple[Float[Tensor, "3 4"], Float[Tensor, "3"]]:
        """The first three rows of the pose, and the camera's position, of `place_like`."""
        place = self.place_like(tensor)
        return place[:12].view(3, 4), place[12:]

    def depths(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, " *P"]:
        """z-depth of world points, in scene units; negative behind the camera."""
        row = self.pose_like(points)[0][2]
        return points @ row[:3] + row[3]

    def local(self, points: Float[Tensor, "*P 3"]) -> Float[Tensor, "*P 3"]:
        """World points in camera coordinates, scene units."""
        transform, _ = self.pose_like(points)
        return points @ transform[:3, :3].T + transform[:3, 3]

    def project(self, points: Float[Tensor, "*P 3"]) -> tuple[Float[Tensor, "*P 2"], Float[Tensor, " *P"]]:
        """Pixel positions and z-depths of world points.

        Positions of points at or behind the camera are meaningless: check the depths first.
        """
        x, y, z = self.local(points).unbind(-1)
        return torch.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], -1), z

    def unproject(
        self, pixels: Float[Tensor, "*#P 2"], depths: Float[Tensor, "*#P"]
    ) -> Float[Tensor, "*P 3"]:
        """World points at pixel positions and z-depths: the inverse of `project`."""
        (transform, _), K = self.pose_like(pixels), self.intrinsics.to(pixels)
        rays = F.pad(pixels, (0, 1), value=1.0) @ K.inverse().T
        return (rays * depths[..., None] - transform[:3, 3]) @ transform[:3, :3]

    def shows(self, pixels: Float[Tensor, "*P 2"], margin: float = 0) -> Bool[Tensor, " *P"]:
        """Whether pixel positions lie within the picture, more than `margin` px from its border."""
        x, y = pixels.unbind(-1)
        return (x > margin) & (x < self.width - margin) & (y > margin) & (y < self.height - margin)

    def looked_up(
        self, points: Float[Tensor, "P 3"], values: Shaped[Tensor, "H W"]
    ) -> tuple[Shaped[Tensor, " P"], Float[Tensor, " P"], Bool[Tensor, " P"]]:
        """What a map of the picture holds at world points, their z-depths, and which points it shows: the
        values at others mean nothing."""
        pixels, z = self.project(points)
        column, row = pixels.nan_to_num().clamp(0, 1e6).long().unbind(-1)
        row, column = row.clamp(max=self.height - 1), column.clamp(max=self.width - 1)
        return values.to(points.device)[row, column], z, self.shows(pixels) & (z > self.near)

    def resized(self, width: int, height: int) -> "Camera":
        """The same view on a grid of `width` x `height` px."""
        scale_x, scale_y = width / self.width, height / self.height
        scale = self.intrinsics.new_tensor([scale_x, scale_y, 1.0])
        full_view = None
        if self.full_view is not None:
            left, top, right, bottom = self.full_view
            full_view = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
        intrinsics = self.intrinsics * scale[:, None]
        return replace(self, intrinsics=intrinsics, width=width, height=height, full_view=full_view)

    def resized_by(self, scale: float) -> "Camera":
        """The same view on a grid with both sides multiplied, at least 1 px long."""
        if scale == 1:
            return self
        return self.resized(max(1, round(self.width * scale)), max(1, round(self.height * scale)))

    def shrink_to(self, longest: int) -> float:
        """The factor for `resized_by` after which no side is longer than `longest` px; never above 1."""
        return min(1.0, longest / max(self.width, self.height))

    def scaled(self, factor: float) -> "Camera":
        """The same view in other units, of which `factor` make one scene unit."""
        if self.place is not None:
            raise ValueError("A camera whose place is read later cannot be scaled.")
        pose = self.cam_from_world.clone()
        pose[:3, 3] *= factor
        return replace(self, cam_from_world=pose, near=factor * self.near)

    def cropped(self, left: int, top: int, width: int, height: int) -> "Camera":
        """The part of the view whose first pixel is (left, top), `width` x `height` px large.

        It may reach beyond the picture. The crop of a camera renders what is in that part of the whole
        picture, because the crop remembers the full view. (`rasterize` shapes splats outside a view by the
        view's bounds.)
        """
        intrinsics = self.intrinsics.clone()
        intrinsics[0, 2] -= left
        intrinsics[1, 2] -= top
        x0, y0, x1, y1 = self.full_view or (0.0, 0.0, float(self.width), float(self.height))
        full_view = (x0 - left, y0 - top, x1 - left, y1 - top)
        return replace(self, intrinsics=intrinsics, width=width, height=height, full_view=full_view)


def intrinsics_matrix(fx: float, fy: float, cx: float, cy: float) -> Float64[Tensor, "3 3"]:
    """The matrix of a pinhole's focal lengths and principal point, px."""
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def position_of(pose: Float[Tensor, "4 4"]) -> Float[Tensor, "3"]:
    """Camera centre of a `cam_from_world`."""
    return -pose[:3, :3].T @ pose[:3, 3]


def is_rotation(matrix: Float[Tensor, "3 3"], tolerance: float = 1e-3) -> bool:
    """Whether a matrix is orthonormal and no mirror; False where a number is not finite.

    Args:
        tolerance: by how much an entry of R R^T may differ; files round their numbers.
    """
    error = (matrix @ matrix.T - torch.eye(3).to(matrix)).abs().max()
    return bool((error <= tolerance) & (torch.linalg.det(matrix) > 0))


def rotation_about(vector: Float64[Tensor, "3"]) -> Float64[Tensor, "3 3"]:
    """The matrix that turns right-handed about a vector, by its length in radians; exactly 1 for zeros."""
    x, y, z = vector.tolist()
    cross = [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]
    return torch.linalg.matrix_exp(torch.tensor(cross, dtype=torch.float64))


def pose_at(rotation: Float[Tensor, "3 3"], position: Float[Tensor, "3"]) -> Float64[Tensor, "4 4"]:
    """`cam_from_world` of a camera that stands at `position`; the rows of `rotation` are its axes."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation
    # numpy's product, which differs from torch's in the last bit.
    pose[:3, 3] = torch.from_numpy(-rotation.numpy() @ position.numpy())
    return pose


def pose_from_opengl(
    rotation: Float64[np.ndarray, "3 3"], position: Float64[np.ndarray, "3"]
) -> Float64[Tensor, "4 4"]:
    """`cam_from_world` from world-from-camera with OpenGL's axes: x right, y up, z backward."""
    return pose_at(torch.from_numpy(rotation * (1, -1, -1)).T, torch.from_numpy(position.copy()))


def opengl_from_pose(cam_from_world: Float[Tensor, "4 4"]) -> Float64[Tensor, "4 4"]:
    """World-from-camera with OpenGL's axes: what `transform_matrix` of transforms.json holds."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = cam_from_world[:3, :3].T * cam_from_world.new_tensor([1.0, -1.0, -1.0])
    matrix[:3, 3] = position_of(cam_from_world)
    return matrix


def mean_up(cameras: Sequence[Camera]) -> Float64[Tensor, "3"]:
    """The mean of the cameras' upward directions in the world; shorter than 1 where they differ."""
    return -torch.stack([camera.cam_from_world[1, :3].double() for camera in cameras]).mean(0)


def most_central(cameras: Sequence[Camera]) -> int:
    """Which camera stands nearest to the middle of all."""
    positions = torch.stack([camera.position for camera in cameras])
    return int((positions - positions.mean(0)).norm(dim=1).argmin())


def where_axes_meet(cameras: Sequence[Camera]) -> tuple[Float[Tensor, "3"], float]:
    """The point nearest to all optical axes, and the condition number of the least-squares problem.

    The number is large where the axes are nearly parallel, so that the point is undetermined.
    """
    positions = torch.stack([camera.position.double() for camera in cameras])
    forward = torch.stack([camera.cam_from_world[2, :3].double() for camera in cameras])
    # Least squares: (I - f f^T) removes the component along an axis.
    across = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    normal, right = across.sum(0), (across @ positions[:, :, None]).sum(0)
    return torch.linalg.lstsq(normal, right).solution[:, 0], float(torch.linalg.cond(normal))
