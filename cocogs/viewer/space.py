"""Between our cameras and viser's.

Both have OpenCV axes. viser keeps world_from_camera as a quaternion (w, x, y, z) and a position, has only a
vertical field of view, and puts the principal point in the middle. Its depth buffer ends at 167 units, so the
scene is scaled to a suitable size: what is drawn in 3D is given in *viewer units*.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import viser.transforms

from cocogs.camera import Camera, intrinsics_matrix, pose_at

TYPICAL_DEPTH = 5.0  # viewer units
MAX_DEPTH = 160.0  # viewer units; stands for all that is farther, and for where nothing is


@dataclass(frozen=True)
class ViewerPose:
    """Where viser's camera stands: `wxyz` (4,) and `position` (3,) in viewer units."""

    wxyz: np.ndarray
    position: np.ndarray

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): columns are the camera's right, down and forward in the world."""
        return viser.transforms.SO3(self.wxyz).as_matrix()


@dataclass(frozen=True)
class ViewerSpace:
    """Scene units and viewer units.

    Args:
        scale: viewer units per scene unit.
    """

    scale: float

    def pose(self, camera: Camera) -> ViewerPose:
        rotation = camera.cam_from_world[:3, :3].double().numpy().T
        wxyz = viser.transforms.SO3.from_matrix(rotation).wxyz
        return ViewerPose(wxyz, self.points(camera.position.double().numpy()))

    def camera(self, pose: ViewerPose, fov: float, width: int, height: int, like: Camera) -> Camera:
        """The camera of a picture that shows what viser's camera shows.

        Args:
            fov: vertical field of view in radians.
            like: a camera of the scene; all that viser does not know is taken from it.
        """
        rotation = torch.from_numpy(pose.axes.T.astype(np.float64))
        cam_from_world = pose_at(rotation, torch.from_numpy(pose.position / self.scale))
        focal = height / 2 / math.tan(fov / 2)
        intrinsics = intrinsics_matrix(focal, focal, width / 2, height / 2)
        return replace(like, intrinsics=intrinsics, cam_from_world=cam_from_world, width=width, height=height)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the scene in viewer units."""
        return points * self.scale


def field_of_view(camera: Camera, aspect: float) -> float:
    """Vertical field of view in radians of a window that just holds the whole picture of `camera`.

    Args:
        aspect: width / height of the window; the principal point of the picture comes to its middle.
    """
    half_height = max(camera.cy, camera.height - camera.cy) / camera.fy
    half_width = max(camera.cx, camera.width - camera.cx) / camera.fx
    return 2 * math.atan(max(half_height, half_width / aspect))


class Places:
    """Where photos were taken; finds the one that was taken from a given place.

    Args:
        tolerance: how far away a camera still counts as being there, scene units.
    """

    def __init__(self, cameras: Sequence[Camera], tolerance: float) -> None:
        self._tolerance = tolerance
        transforms = [camera.cam_from_world.double().numpy() for camera in cameras]
        self._rotations = np.array(transforms).reshape(-1, 4, 4)[:, :3, :3]
        self._positions = np.array([camera.position.double().numpy() for camera in cameras]).reshape(-1, 3)

    def find(self, camera: Camera, rather: int = 0) -> int | None:
        """The photo taken from where `camera` stands, in its direction to 0.1 degrees; None if there is none.

        Of several, as from a tripod, number `rather` if it is one of them, else the nearest.
        """
        distances = np.linalg.norm(self._positions - camera.position.double().numpy(), axis=1)
        traces = np.einsum("nij,ij->n", self._rotations, camera.cam_from_world[:3, :3].double().numpy())
        fits = (distances < self._tolerance) & ((traces - 1) / 2 > math.cos(math.radians(0.1)))
        if not fits.any():
            return None
        return rather if fits[rather] else int(np.where(fits, distances, np.inf).argmin())


def frame_in_window(photo: Camera, window: Camera) -> tuple[float, float, float, float]:
    """Left, top, right and bottom border of the picture that `photo` takes from there, in px of `window`."""
    left, right = (window.cx + (x - photo.cx) / photo.fx * window.fx for x in (0, photo.width))
    top, bottom = (window.cy + (y - photo.cy) / photo.fy * window.fy for y in (0, photo.height))
    return left, top, right, bottom
