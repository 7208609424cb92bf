"""One visitor: where they stand, through which lens they look, and the pictures that they get."""

import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import viser

from cocogs.camera import Camera
from cocogs.edit.subject import open_subject
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.camera_path import CameraPath, LensSetting, PathFrame, path_to_json
from cocogs.optics.lens import Lens
from cocogs.viewer.exhibit import Exhibit, drawing
from cocogs.viewer.highlight import Marks
from cocogs.viewer.landmarks import Landmarks
from cocogs.viewer.painter import Painter
from cocogs.viewer.panel import Panel
from cocogs.viewer.request import PHOTO, REFINEMENTS, REFOCUSED, SHARP, Request, describe, even_sized
from cocogs.viewer.schedule import AbandonedError, Effort, RenderLoop
from cocogs.viewer.space import Places, ViewerPose, ViewerSpace, field_of_view
from cocogs.viewer.workbench import Workbench

LARGEST_SIDE = 1280  # px; photos are trained at 800 px or less, so larger pictures show nothing new
COARSE_QUALITY, STILL_QUALITY = 75, 93  # of JPEG
SAME_CLICK = 0.3  # seconds; a click on a camera in the scene also arrives as a click in the picture


class Session:
    """The state of one visitor, which viser, the player of films and the workbench change from many threads.

    Every change holds `_lock` from reading the old state to asking for a picture of the new one. So no change
    is lost, and the last picture asked for shows the last state.
    """

    def __init__(
        self, client: viser.ClientHandle, exhibit: Exhibit, space: ViewerSpace,
        publish: Callable[[Exhibit], None] = lambda exhibit: None,
    ) -> None:  # fmt: skip
        self._client, self.exhibit, self._space, self._publish = client, exhibit, space, publish
        self._bench: Workbench | None = None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._camera_clicked = -math.inf  # when
        self.lens, self.show, self.photo = exhibit.lens, REFOCUSED, 0
        self.metres = exhibit.metres  # in a scene unit; None = distances are shown in scene units
        self.drawn: tuple[Request, Effort] | None = None  # what is on the screen
        self._fitted_aspect = 0.0
        self._places = Places([photo.camera for photo in exhibit.photos], 1e-3 * exhibit.lens.focus_distance)
        self._landmarks = Landmarks(client.scene, exhibit.photos, space)
        self._panel = Panel(client.gui, exhibit, self)
        self._painter = Painter(exhibit, space)
        self._loop: RenderLoop[Request] = RenderLoop(self._draw)
        start = self._places.find(exhibit.start)
        self.go_to(exhibit.start) if start is None else self.visit(start)
        client.scene.on_click()(self._on_click)
        client.camera.on_update(lambda _: self.refresh())

    def close(self) -> None:
        """Stop all that is drawn and played."""
        self._closed.set()
        self._panel.close()
        if self._bench is not None:
            self._bench.close()
        self._loop.close()

    # The lens.

    def set_lens(self, lens: Lens) -> None:
        with self._lock:
            self.lens = lens
            self._panel.sync()
            self.refresh()

    def turn_lens(self, **changes: Any) -> None:
        """Change some properties of the lens by hand, and show the scene through it."""
        with self._lock:
            self.show = REFOCUSED
            self.set_lens(replace(self.lens, **changes))

    def reset_lens(self) -> None:
        """Take the lens of the visited photo, or the one of the start."""
        with self._lock:
            here = self._places.find(self.window(), self.photo)
            learned = None if here is None else self.exhibit.photos[here].lens
            self.show = REFOCUSED
            self.set_lens(learned or self.exhibit.lens)

    # What is shown, and from where.

    def set_show(self, mode: str) -> None:
        """Show the scene refocused or sharp, or the photo, from where it was taken."""
        with self._lock:
            self.show = mode
            if mode == PHOTO and self._places.find(self.window(), self.photo) is None:
                self.visit(self.photo)
            self.refresh()

    def visit(self, index: int) -> None:
        """Go to where a photo was taken, focused as it was."""
        photo = self.exhibit.photos[index]
        with self._lock:
            self.photo = index
            self._panel.choose_photo(index)
            self._landmarks.choose(index)
            if photo.lens is not None:
                self.set_lens(replace(self.lens, focus_distance=photo.lens.focus_distance))
            self.go_to(photo.camera)

    def go_to(self, camera: Camera) -> None:
        """Go to where `camera` stands and see all that it sees; dragging turns around what is in focus."""
        with self._lock:
            pose = self._space.pose(camera)
            _, down, forward = pose.axes.T
            distance = self._space.scale * min(self.lens.focus_distance, self.exhibit.depth_range[1])
            with self._client.atomic():
                viewer = self._client.camera
                viewer.position = pose.position
                viewer.up_direction = -down
                viewer.look_at = pose.position + distance * forward
                viewer.fov = field_of_view(camera, viewer.aspect)
                self._fitted_aspect = viewer.aspect
            self.refresh()

    def show_frame(self, frame: PathFrame) -> None:
        """Show one frame of a film."""
        with self._lock:
            if frame.lens is None:
                self.set_show(SHARP)
            else:
                self.turn_lens(**frame.lens._asdict())
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

    # Editing.

    def edit(self) -> Workbench:
        """Open the scene for editing. Raises InputError where its files are damaged."""
        assert self.exhibit.target is not None  # else the panel does not offer it
        note = self._client.add_notification("Opening the scene", "", loading=True, with_close_button=False)
        try:
            subject = open_subject(self.exhibit.target, say=lambda line: None)
            self._bench = Workbench(subject, self._client.scene, self._space, self)
        finally:
            note.remove()
        return self._bench

    def show_scene(self, scene: Callable[[], Gaussians], marks: Marks | None) -> None:
        """Show other Gaussians from now on, some of them highlighted.

        Args:
            scene: see `cocogs.viewer.exhibit.drawing`.
        """
        with self._lock:
            self.exhibit = self._painter.exhibit = replace(self.exhibit, **drawing(scene))
            self._painter.marks = marks
            self.refresh()

    def publish(self, scene: Callable[[], Gaussians]) -> None:
        """Show other Gaussians to visitors who come from now on."""
        self._publish(replace(self.exhibit, **drawing(scene)))

    def notify(self, title: str, text: str) -> None:
        self._client.add_notification(title, text, auto_close_seconds=6.0)

    # What is saved.

    def save_picture(self, width: int) -> None:
        """Send what is seen as a PNG: drawn in final quality, or the photo where that is shown."""
        with self._lock:
            request = self._request()
        camera = even_sized(self._painter.framed(request), width)
        title = f"{camera.width} × {camera.height}"
        note = self._client.add_notification(
            "Drawing the picture", title, loading=True, with_close_button=False
        )
        try:
            picture = self._painter.final(request, camera, self._counting(note, title))
        except AbandonedError:
            return
        finally:
            note.remove()
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        self._download(f"{self.exhibit.title}.png", buffer.getvalue())

    def _counting(self, note: Any, title: str) -> Callable[[], None]:
        """A `check` that shows how many lens samples are drawn, and raises when the visitor has left."""
        drawn = 0

        def check() -> None:
            nonlocal drawn
            if self._closed.is_set():
                raise AbandonedError
            note.body = f"{title} · {drawn} of {REFINEMENTS[-1]} lens samples"
            drawn += 1

        return check

    def save_path(self, path: CameraPath, name: str) -> None:
        """Send a path as a file for `cocogs render --path`."""
        width = self._panel.picture_width()
        frames = [replace(frame, camera=even_sized(frame.camera, width)) for frame in path.frames]
        text = path_to_json(CameraPath(path.fps, frames))
        self._download(f"{self.exhibit.title}-{name}.json", text.encode())

    def _download(self, name: str, content: bytes) -> None:
        self._client.send_file_download(name, content, save_immediately=True)

    # Where the visitor is.

    @property
    def distance_unit(self) -> tuple[str, float]:
        """What follows the label of a distance, and the length of a scene unit in that unit."""
        return ("", 1.0) if self.metres is None else (" (m)", self.metres)

    @property
    def depth_range(self) -> tuple[float, float]:
        return self.exhibit.depth_range

    def window(self) -> Camera:
        """The camera of the whole window, at the size at which still pictures are drawn."""
        viewer = self._client.camera
        width, height = max(viewer.image_width, 1), max(viewer.image_height, 1)
        shrink = min(1.0, LARGEST_SIDE / max(width, height))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        pose = ViewerPose(viewer.wxyz, viewer.position)
        return self._space.camera(pose, viewer.fov, *size, like=self.exhibit.start)

    def frame(self) -> PathFrame:
        """The camera, and the lens unless the scene is shown sharp."""
        with self._lock:
            lens = LensSetting(self.lens.focus_distance, self.lens.aperture_diameter)
            return PathFrame(self.window(), None if self.show == SHARP else lens)

    def framed(self) -> Camera:
        """The camera of a picture to save: that of the visited photo, else that of the window."""
        with self._lock:
            return self._painter.framed(self._request())

    # What the visitor does in the picture.

    def _on_click(self, event: viser.SceneClickEvent) -> None:
        if self._bench is not None and self._bench.takes_clicks:
            return
        if not self._panel.click_focuses.value or time.monotonic() - self._camera_clicked < SAME_CLICK:
            return
        window = self.window()
        x, y = event.screen_pos[0] * window.width, event.screen_pos[1] * window.height
        try:
            depth = self.exhibit.depth_at(window, x, y)
        except InputError:
            self.notify("Nothing there", "There is nothing to focus on at this point.")
            return
        self.turn_lens(focus_distance=depth)

    def _on_camera_click(self, index: int) -> None:
        self._camera_clicked = time.monotonic()
        self.visit(index)

    # Drawing.

    def refresh(self) -> None:
        """Ask for a picture of the present state."""
        with self._lock:
            request = self._request()
            self._landmarks.hide(request.photo)
            self._panel.show_looks(request.looks_through_lens)
            self._fit(request.photo)
            self._loop.submit(request, request.refinements)

    def _fit(self, photo: int | None) -> None:
        """When the window has changed its shape, let the photo's frame fill it again."""
        viewer = self._client.camera
        if photo is not None and not math.isclose(viewer.aspect, self._fitted_aspect, rel_tol=0.01):
            self._fitted_aspect = viewer.aspect
            viewer.fov = field_of_view(self.exhibit.photos[photo].camera, viewer.aspect)

    def _request(self) -> Request:
        window = self.window()
        photo = self._places.find(window, self.photo)
        show = REFOCUSED if self.show == PHOTO and photo is None else self.show
        with_depth = self._landmarks.any_visible or (self._bench is not None and self._bench.needs_depth)
        return Request(window, self.lens, show, photo, with_depth)

    def _draw(self, request: Request, effort: Effort, check: Callable[[], None]) -> None:
        """Called by the thread of the render loop."""
        try:
            picture, depth = self._painter.paint(request, effort, check)
        except InputError as error:  # a lens out of range
            self._panel.tell(str(error))
            return
        check()
        quality = COARSE_QUALITY if effort.is_coarse else STILL_QUALITY
        self._client.scene.set_background_image(picture, jpeg_quality=quality, depth=depth)
        self.drawn = request, effort
        self._panel.tell(describe(request, effort))
