"""Draws what visitors ask for: the scene, the photo in its frame, and depths for what is drawn in 3D."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from cocogs.camera import Camera
from cocogs.io.pictures import to_picture
from cocogs.viewer.exhibit import Exhibit
from cocogs.viewer.highlight import Highlighter, Marks
from cocogs.viewer.request import PHOTO, REFINEMENTS, Request
from cocogs.viewer.schedule import Effort
from cocogs.viewer.space import MAX_DEPTH, ViewerSpace, frame_in_window

OUTSIDE = 0.3  # brightness of what lies outside the frame of the visited photo
# Viewer units; of the three bytes that viser sends per depth, this leaves the last empty.
DEPTH_STEP = 0.00256


class Painter:
    """Draws an exhibit for one visitor. `paint` is called by one thread only.

    `exhibit` and `marks`, the splats that are highlighted, may be replaced by others at any time.
    """

    def __init__(self, exhibit: Exhibit, space: ViewerSpace) -> None:
        self.exhibit, self._space = exhibit, space
        self.marks: Marks | None = None
        self._highlighter = Highlighter()
        self._last_depth: tuple[Camera, np.ndarray] | None = None

    def paint(
        self, request: Request, effort: Effort, check: Callable[[], None]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The window's picture (H, W, 3) uint8, and its depths (h, w) in viewer units if they are asked for.

        Args:
            check: called now and then; may raise, to abandon the picture.
        """
        camera = request.camera.resized_by(effort.scale)
        marks = self.marks
        drawn = self.exhibit.draw(camera, request.drawn_lens, effort.samples, check)
        if marks is not None:
            drawn = self._highlighter.over(drawn, marks, camera, request.drawn_lens)
        picture = to_picture(drawn)
        if request.photo is not None:
            picture = self._framed_picture(picture, camera, request)
        return np.asarray(picture), self._depth(camera) if request.with_depth else None

    def final(self, request: Request, camera: Camera, check: Callable[[], None]) -> Image.Image:
        """A picture to save: through all lens samples, or the photo where that is shown."""
        if request.show == PHOTO:
            return self._photo_picture(request, camera.width, camera.height)
        return to_picture(self.exhibit.draw(camera, request.drawn_lens, REFINEMENTS[-1], check))

    def framed(self, request: Request) -> Camera:
        """The camera of a picture to save: that of the visited photo, else that of the window."""
        return request.camera if request.photo is None else self.exhibit.photos[request.photo].camera

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
        """The visited photo, at this size."""
        assert request.photo is not None
        load = self.exhibit.photos[request.photo].load
        assert load is not None  # else the panel does not offer it
        return to_picture(load()).resize((width, height), Image.Resampling.LANCZOS)

    def _depth(self, camera: Camera) -> np.ndarray:
        """(h, w) in viewer units, at half the size: good enough to hide cameras behind things."""
        if self._last_depth is None or self._last_depth[0] is not camera:
            depth = self.exhibit.depth(camera.resized_by(0.5)) * self._space.scale
            steps = (depth.clamp(max=MAX_DEPTH) / DEPTH_STEP).round()
            self._last_depth = camera, (steps * DEPTH_STEP).cpu().numpy()
        return self._last_depth[1]
