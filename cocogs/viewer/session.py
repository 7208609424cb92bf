"""One visitor: what they look at, through which lens, and the pictures drawn for them."""

import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import viser
from PIL import Image

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.camera_path import CameraPath, PathFrame, path_to_json
from cocogs.io.pictures import to_picture
from cocogs.optics.lens import Lens
from cocogs.viewer.exhibit import Exhibit
from cocogs.viewer.landmarks import Landmarks
from cocogs.viewer.panel import PHOTO, REFOCUSED, SHARP, Panel
from cocogs.viewer.schedule import AbandonedError, Effort, RenderLoop
from cocogs.viewer.space import (
    MAX_DEPTH,
    Places,
    ViewerPose,
    ViewerSpace,
    field_of_view,
    frame_in_window,
)

LARGEST_SIDE = 1280  # px; photos are trained at 800 px or less, so more shows nothing new
REFINEMENTS = (0, 16, 64)  # lens samples of a still picture, one after the other
OUTSIDE = 0.3  # brightness of what lies outside the frame of the photo one stands at
COARSE_QUALITY, STILL_QUALITY = 75, 93  # of JPEG
# Viewer units; of the three bytes that viser sends per depth, this leaves the last empty.
DEPTH_STEP = 0.00256
SAME_CLICK = 0.3  # seconds; a click on a camera in the scene also arrives as a click in the picture


@dataclass(frozen=True)
class Request:
    """A picture to draw; `photo` is the index of the one taken from this very place, if any."""

    camera: Camera
    lens: Lens
    show: str
    photo: int | None
    with_depth: bool

    @property
    def drawn_lens(self) -> Lens:
        return replace(self.lens, aperture_diameter=0.0) if self.show == SHARP else self.lens

    @property
    def looks_through_lens(self) -> bool:
        """Whether lens samples, blades and highlights change the picture: where there is blur, and no photo
        before it."""
        return self.show == REFOCUSED and self.lens.aperture_diameter > 0

    @property
    def refinements(self) -> tuple[int, ...]:
        return REFINEMENTS if self.looks_through_lens else REFINEMENTS[:1]


class Session:
    """A visitor's state. viser calls from many threads; `_lock` guards what several of them change."""

    def __init__(self, client: viser.ClientHandle, exhibit: Exhibit, space: ViewerSpace) -> None:
        self._client, self.exhibit, self._space = client, exhibit, space
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._camera_clicked = -math.inf  # when
        self._last_depth: tuple[Camera, np.ndarray] | None = None
        self.lens, self.show, self.photo = exhibit.lens, REFOCUSED, 0
        self.drawn: tuple[Request, Effort] | None = None  # what is on the screen
        self._fitted_aspect = 0.0
        self._places = Places([photo.camera for photo in exhibit.photos], 1e-3 * exhibit.lens.focus_distance)
        self._landmarks = Landmarks(client.scene, exhibit.photos, space)
        self._panel = Panel(client.gui, exhibit, self)
        self._loop: RenderLoop[Request] = RenderLoop(self._draw)
        start = self._places.find(exhibit.start)
        self.go_to(exhibit.start) if start is None else self.visit(start)
        client.scene.on_click()(self._on_click)
        client.camera.on_update(lambda _: self.refresh())

    def close(self) -> None:
        self._closed.set()
        self._panel.close()
        self._loop.close()

    # What the panel asks for.

    def set_lens(self, lens: Lens) -> None:
        with self._lock:
            self.lens = lens
            self._panel.sync()
        self.refresh()

    def turn_lens(self, lens: Lens) -> None:
        """Set the lens by hand, to see it: not the sharp scene, nor the photo."""
        self.show = REFOCUSED
        self.set_lens(lens)

    def reset_lens(self) -> None:
        """The lens of the photo one stands at, or the one of the start."""
        here = self._places.find(self.window(), self.photo)
        learned = None if here is None else self.exhibit.photos[here].lens
        self.turn_lens(learned or self.exhibit.lens)

    def set_show(self, mode: str) -> None:
        """Refocused, sharp, or the photo; for the photo one has to stand where it was taken."""
        self.show = mode
        if mode == PHOTO and self._places.find(self.window(), self.photo) is None:
            self.visit(self.photo)
        self.refresh()

    def visit(self, index: int) -> None:
        """Stand where a photo was taken, focused as it was."""
        photo = self.exhibit.photos[index]
        with self._lock:
            self.photo = index
            self._panel.choose_photo(index)
            self._landmarks.choose(index)
            if photo.lens is not None:
                self.set_lens(replace(self.lens, focus_distance=photo.lens.focus_distance))
        self.go_to(photo.camera)

    def go_to(self, camera: Camera) -> None:
        """Stand where `camera` does and see all that it sees; one then moves around what is in focus."""
        pose = self._space.pose(camera)
        _, down, forward = pose.axes.T
        distance = self._space.scale * min(self.lens.focus_distance, self.exhibit.depth_range[1])
        with self._lock, self._client.atomic():
            viewer = self._client.camera
            viewer.position = pose.position
            viewer.up_direction = -down
            viewer.look_at = pose.position + distance * forward
            viewer.fov = field_of_view(camera, viewer.aspect)
            self._fitted_aspect = viewer.aspect
        self.refresh()

    def show_frame(self, frame: PathFrame) -> None:
        """One frame of a film."""
        if frame.focus_distance is None or frame.aperture_diameter is None:
            self.set_show(SHARP)
        else:
            self.turn_lens(
                replace(
                    self.lens, focus_distance=frame.focus_distance, aperture_diameter=frame.aperture_diameter
                )
            )
        if not torch.allclose(frame.camera.cam_from_world, self.window().cam_from_world, atol=1e-6):
            self.go_to(frame.camera)

    def show_cameras(self, visible: bool) -> None:
        with self._lock:
            self._landmarks.show_cameras(visible, self._on_camera_click)
        self.refresh()

    def show_planes(self, visible: bool) -> None:
        with self._lock:
            self._landmarks.show_planes(visible)
        self.refresh()

    def show_path(self, cameras: Sequence[Camera]) -> None:
        with self._lock:
            self._landmarks.show_path(cameras)
        self.refresh()

    def notify(self, title: str, text: str) -> None:
        self._client.add_notification(title, text, auto_close_seconds=6.0)

    def save_picture(self, width: int) -> None:
        """Send what is seen as a PNG: drawn in final quality, or the photo where that is shown."""
        request = self._request()
        camera = sized(self._framed(request), width)
        try:
            if request.show == PHOTO:
                picture = self._photo_picture(request, camera.width, camera.height)
            else:
                picture = self._final_picture(camera, request.drawn_lens)
        except AbandonedError:
            return
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        self._download(f"{self.exhibit.title}.png", buffer.getvalue())

    def _final_picture(self, camera: Camera, lens: Lens) -> Image.Image:
        """Through all lens samples, while the visitor reads how far it is."""
        note = self._client.add_notification(
            "Drawing the picture", f"{camera.width} × {camera.height}", loading=True, with_close_button=False
        )
        drawn = 0

        def check() -> None:
            nonlocal drawn
            if self._closed.is_set():
                raise AbandonedError
            note.body = f"{camera.width} × {camera.height} · {drawn} of {REFINEMENTS[-1]} lens samples"
            drawn += 1

        try:
            return to_picture(self.exhibit.draw(camera, lens, REFINEMENTS[-1], check))
        finally:
            note.remove()

    def save_path(self, path: CameraPath, name: str) -> None:
        """Send a path as a file for `cocogs render --path`."""
        width = self._panel.picture_width()
        frames = [replace(frame, camera=sized(frame.camera, width)) for frame in path.frames]
        text = path_to_json(CameraPath(path.fps, frames))
        self._download(f"{self.exhibit.title}-{name}.json", text.encode())

    def _download(self, name: str, content: bytes) -> None:
        self._client.send_file_download(name, content, save_immediately=True)

    # Where one stands.

    @property
    def distance_unit(self) -> tuple[str, float]:
        """What stands behind the label of a distance, and how long a scene unit is in it."""
        metres = self.exhibit.metres
        return ("", 1.0) if metres is None else (" (m)", metres)

    @property
    def depth_range(self) -> tuple[float, float]:
        return self.exhibit.depth_range

    def window(self) -> Camera:
        """The camera of the whole window, at the size at which still pictures are drawn."""
        viewer = self._client.camera
        width, height = max(viewer.image_width, 1), max(viewer.image_height, 1)
        shrink = min(1.0, LARGEST_SIDE / max(width, height))
        pose = ViewerPose(viewer.wxyz, viewer.position)
        return self._space.camera(
            pose, viewer.fov, max(1, round(width * shrink)), max(1, round(height * shrink))
        )

    def frame(self) -> PathFrame:
        """Where one stands, and the lens where it is not left out."""
        if self.show == SHARP:
            return PathFrame(self.window())
        return PathFrame(self.window(), self.lens.focus_distance, self.lens.aperture_diameter)

    def framed(self) -> Camera:
        """The camera of a picture to save: the photo's where one stands at one, else the window's."""
        return self._framed(self._request())

    def _framed(self, request: Request) -> Camera:
        return request.camera if request.photo is None else self.exhibit.photos[request.photo].camera

    # What the visitor does in the picture.

    def _on_click(self, event: viser.SceneClickEvent) -> None:
        if not self._panel.click_focuses.value or time.monotonic() - self._camera_clicked < SAME_CLICK:
            return
        window = self.window()
        x, y = event.screen_pos[0] * window.width, event.screen_pos[1] * window.height
        try:
            depth = self.exhibit.depth_at(window, x, y)
        except InputError:
            self.notify("Nothing there", "There is nothing to focus on at this place.")
            return
        self.turn_lens(replace(self.lens, focus_distance=depth))

    def _on_camera_click(self, index: int) -> None:
        self._camera_clicked = time.monotonic()
        self.visit(index)

    # Drawing.

    def refresh(self) -> None:
        """Ask for a picture of the present state."""
        request = self._request()
        with self._lock:
            self._landmarks.hide(request.photo)
            self._panel.show_looks(request.looks_through_lens)
            self._fit(request.photo)
        self._loop.submit(request, request.refinements)

    def _fit(self, photo: int | None) -> None:
        """When the window has got another shape, let the photo's frame fill it again."""
        viewer = self._client.camera
        if photo is not None and not math.isclose(viewer.aspect, self._fitted_aspect, rel_tol=0.01):
            self._fitted_aspect = viewer.aspect
            viewer.fov = field_of_view(self.exhibit.photos[photo].camera, viewer.aspect)

    def _request(self) -> Request:
        window = self.window()
        photo = self._places.find(window, self.photo)
        show = REFOCUSED if self.show == PHOTO and photo is None else self.show
        return Request(window, self.lens, show, photo, self._landmarks.any_visible)

    def _draw(self, request: Request, effort: Effort, check: Callable[[], None]) -> None:
        camera = scaled(request.camera, effort.scale)
        picture = to_picture(self.exhibit.draw(camera, request.drawn_lens, effort.samples, check))
        if request.photo is not None:
            picture = self._framed_picture(picture, camera, request)
        depth = self._depth(camera) if request.with_depth else None
        check()
        quality = COARSE_QUALITY if effort.is_coarse else STILL_QUALITY
        self._client.scene.set_background_image(np.asarray(picture), jpeg_quality=quality, depth=depth)
        self.drawn = request, effort
        self._panel.tell(describe(request, effort))

    def _framed_picture(self, picture: Image.Image, camera: Camera, request: Request) -> Image.Image:
        """The photo's frame in the window: dark around it, and in it the photo itself where that is shown."""
        assert request.photo is not None
        photo = self.exhibit.photos[request.photo]
        left, top, right, bottom = map(round, frame_in_window(photo.camera, camera))
        framed = picture.point(lambda value: value * OUTSIDE)
        if request.show == PHOTO:
            content = self._photo_picture(request, right - left, bottom - top)
        else:
            content = picture.crop((left, top, right, bottom))
        framed.paste(content, (left, top))
        return framed

    def _photo_picture(self, request: Request, width: int, height: int) -> Image.Image:
        """The photo taken from where one stands."""
        assert request.photo is not None
        load = self.exhibit.photos[request.photo].load
        assert load is not None  # else the panel does not offer it
        return to_picture(load()).resize((width, height), Image.Resampling.LANCZOS)

    def _depth(self, camera: Camera) -> np.ndarray:
        """(h, w) in viewer units, at half the size: good enough to hide cameras behind things."""
        if self._last_depth is None or self._last_depth[0] is not camera:
            depth = self.exhibit.depth(scaled(camera, 0.5)) * self._space.scale
            steps = (depth.clamp(max=MAX_DEPTH) / DEPTH_STEP).round()
            self._last_depth = camera, (steps * DEPTH_STEP).cpu().numpy()
        return self._last_depth[1]


def scaled(camera: Camera, scale: float) -> Camera:
    if scale == 1:
        return camera
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def sized(camera: Camera, width: int) -> Camera:
    """The camera for a picture about `width` px wide; both sides are even, as films need them."""
    even = 2 * max(1, round(width / 2))
    return camera.resized(even, 2 * max(1, round(even * camera.height / camera.width / 2)))


def describe(request: Request, effort: Effort) -> str:
    """What is on the screen, in a few words."""
    if effort.is_coarse:
        return f"{request.show} · draft"
    size = f"{request.camera.width} × {request.camera.height}"
    if len(request.refinements) == 1:
        return f"{request.show} · {size}"
    return f"{request.show} · {size} · {max(effort.samples, 1)} of {request.refinements[-1]} lens samples"
