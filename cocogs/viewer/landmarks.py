"""What the viewer draws in 3D: the cameras of the photos, their planes in focus, the path being made."""

import colorsys
from collections.abc import Callable, Sequence

import numpy as np
import torch
import viser

from cocogs.camera import Camera
from cocogs.io.pictures import to_picture
from cocogs.optics.lens import Lens
from cocogs.viewer.exhibit import Photo
from cocogs.viewer.space import TYPICAL_DEPTH, ViewerSpace, field_of_view

FRUSTUM = 0.03 * TYPICAL_DEPTH  # size of a camera, viewer units; its thumbnail is 2.5 times as wide
THUMBNAIL = 160  # px
CAMERA_COLOR, CHOSEN_COLOR, PATH_COLOR = (150, 150, 150), (255, 170, 40), (90, 200, 255)
NEAR_HUE, FAR_HUE = 0.07, 0.58  # orange, blue


class Landmarks:
    """The cameras of the photos, with thumbnails where the photos are at hand, and their planes in focus, as
    one visitor sees them."""

    def __init__(self, scene: viser.SceneApi, photos: Sequence[Photo], space: ViewerSpace) -> None:
        self._scene, self._photos, self._space = scene, photos, space
        self._shown = {"cameras": False, "planes": False}
        self._frusta: list[viser.CameraFrustumHandle] = []
        self._planes: viser.LineSegmentsHandle | None = None
        self._chosen_plane: viser.MeshHandle | None = None
        self._path: viser.SplineCatmullRomHandle | None = None
        self._chosen: int | None = None
        self._hidden: int | None = None

    def show_cameras(self, visible: bool, chosen: Callable[[int], None]) -> None:
        """Show or hide the cameras; `chosen` is called with the index of one that is clicked."""
        self._shown["cameras"] = visible
        if visible and not self._frusta:
            self._frusta = [self._frustum(index, chosen) for index in range(len(self._photos))]
        self._update()

    def show_planes(self, visible: bool) -> None:
        """Show or hide the rectangle that was in focus in every photo."""
        self._shown["planes"] = visible
        if visible and self._planes is None:
            self._planes = self._outlines()
        self._update()

    def show_path(self, cameras: Sequence[Camera]) -> None:
        """Draw the path through some cameras; nothing for fewer than two."""
        if self._path is not None:
            self._path.remove()
            self._path = None
        if len(cameras) > 1:
            places = self._space.points(np.stack([camera.position.numpy() for camera in cameras]))
            self._path = self._scene.add_spline_catmull_rom(
                "/path",
                places,
                curve_type="catmullrom",
                thickness=2.0,
                thickness_units="screen",
                color=PATH_COLOR,
            )

    @property
    def any_visible(self) -> bool:
        return any(self._shown.values()) or self._path is not None

    def choose(self, index: int) -> None:
        """Make one photo stand out."""
        self._chosen = index
        self._update()

    def hide(self, index: int | None) -> None:
        """Hide the camera that the visitor looks through: its thumbnail would cover everything."""
        if index != self._hidden:
            self._hidden = index
            self._update()

    def _update(self) -> None:
        for index, frustum in enumerate(self._frusta):
            frustum.visible = self._shown["cameras"] and index != self._hidden
            frustum.color = CHOSEN_COLOR if index == self._chosen else CAMERA_COLOR
        if self._planes is not None:
            self._planes.visible = self._shown["planes"]
        if self._chosen_plane is not None:
            self._chosen_plane.remove()
            self._chosen_plane = None
        if self._shown["planes"] and self._chosen is not None:
            self._chosen_plane = self._filled(self._photos[self._chosen])

    def _frustum(self, index: int, chosen: Callable[[int], None]) -> viser.CameraFrustumHandle:
        photo = self._photos[index]
        pose = self._space.pose(photo.camera)
        aspect = photo.camera.width / photo.camera.height
        handle = self._scene.add_camera_frustum(
            f"/photos/{index}",
            fov=field_of_view(photo.camera, aspect),
            aspect=aspect,
            scale=self._frustum_size(),
            thickness=1.5,
            thickness_units="screen",
            color=CAMERA_COLOR,
            image=None if photo.load is None else thumbnail(photo.load()),
            wxyz=pose.wxyz,
            position=pose.position,
            cast_shadow=False,
            receive_shadow=False,
        )

        @handle.on_click
        async def _(_: viser.SceneNodePointerEvent) -> None:
            # In viser's own thread: this click has to arrive before the click in the picture that follows.
            chosen(index)

        return handle

    def _frustum_size(self) -> float:
        """The size of a camera at which neighbours hardly touch, viewer units."""
        if len(self._photos) < 2:
            return FRUSTUM
        positions = torch.stack([photo.camera.position for photo in self._photos])
        distances = torch.cdist(positions, positions).fill_diagonal_(torch.inf).amin(1)
        return min(FRUSTUM, 0.25 * self._space.scale * float(distances.median()))

    def _outlines(self) -> viser.LineSegmentsHandle | None:
        focused = [(photo, photo.lens) for photo in self._photos if photo.lens is not None]
        if not focused:
            return None
        corners = np.stack([self._corners(photo.camera, lens) for photo, lens in focused])
        segments = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2, 3)
        vergence = np.array([1 / lens.focus_distance for _, lens in focused])
        span = max(np.ptp(vergence), 1e-9)
        hues = FAR_HUE + (NEAR_HUE - FAR_HUE) * (vergence - vergence.min()) / span
        colors = np.array([colorsys.hsv_to_rgb(hue, 0.9, 1.0) for hue in hues])
        return self._scene.add_line_segments(
            "/focus_planes",
            points=segments.astype(np.float32),
            colors=np.repeat((255 * colors).astype(np.uint8), 8, axis=0).reshape(-1, 2, 3),
            thickness=1.5,
            thickness_units="screen",
        )

    def _filled(self, photo: Photo) -> viser.MeshHandle | None:
        if photo.lens is None:
            return None
        return self._scene.add_mesh_simple(
            "/focus_plane",
            vertices=self._corners(photo.camera, photo.lens).astype(np.float32),
            faces=np.array([[0, 1, 2], [0, 2, 3]], dtype=np.uint32),
            color=CHOSEN_COLOR,
            opacity=0.35,
            side="double",
            cast_shadow=False,
            receive_shadow=False,
        )

    def _corners(self, camera: Camera, lens: Lens) -> np.ndarray:
        """(4, 3) corners of the picture, projected on the plane in focus, viewer units."""
        return self._space.points(frame_at(camera, lens.focus_distance).numpy())


def frame_at(camera: Camera, depth: float) -> torch.Tensor:
    """(4, 3) world points at z-depth `depth` in the corners of the picture, clockwise from the upper left."""
    pixels = torch.tensor([[0, 0], [camera.width, 0], [camera.width, camera.height], [0, camera.height]])
    return camera.unproject(pixels.double(), torch.full((4,), depth, dtype=torch.float64))


def thumbnail(photo: torch.Tensor) -> np.ndarray:
    """(h, w, 3) uint8 of (3, H, W) sRGB."""
    picture = to_picture(photo)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
