"""What the mouse does in the picture while a tool of editing is chosen: clicks, rectangles, drawn lines.

viser tells clicks, rectangles, and drags of things in the scene. So lines are drawn on things that lie behind
everything, fill the picture and are not seen. With Alt the mouse turns the view as ever.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import viser
import viser.transforms

from cocogs.camera import Camera
from cocogs.viewer.space import MAX_DEPTH, ViewerSpace

LOOK, OBJECT, COLOR, FLOOD = "Look", "Object", "Colour", "Flood"
RECTANGLE, LASSO, BRUSH = "Rectangle", "Lasso", "Brush"
BOX, SPHERE, MOVE = "Box", "Sphere", "Move"
CLICKED, DRAGGED = (OBJECT, COLOR, FLOOD, BRUSH), (LASSO, BRUSH)
MODIFIERS = (None, "shift", "cmd/ctrl", "cmd/ctrl+shift")
FAR_AWAY = 1.1 * MAX_DEPTH  # viewer units; behind all that is drawn, so that viser's arrow is hidden
LINE_DEPTH = 0.1  # viewer units; in front of all that is drawn
LINE_COLOR = (255, 170, 40)
CLEAR = np.zeros((1, 1, 4), dtype=np.uint8)


@dataclass(frozen=True)
class Gesture:
    """What was done in the picture.

    Args:
        tool: with which it was done.
        points: as parts of the picture's width and height; of a rectangle its corners.
        modifier: keys that were held.
        camera: of the window.
    """

    tool: str
    points: tuple[tuple[float, float], ...]
    modifier: str | None
    camera: Camera


class Pointer:
    """Hears the mouse in the picture for one tool at a time.

    Args:
        window: the camera of the window.
        drawn: called with a gesture, and whether it has ended; also while a line is drawn.
    """

    def __init__(
        self, scene: viser.SceneApi, space: ViewerSpace, window: Callable[[], Camera],
        drawn: Callable[[Gesture, bool], None],
    ) -> None:  # fmt: skip
        self._scene, self._space, self._window, self._drawn = scene, space, window, drawn
        self.tool = LOOK
        self._canvas: list[viser.ImageHandle] = []
        self._line: viser.LineSegmentsHandle | None = None
        self._points: list[tuple[float, float]] = []
        self._camera: Camera | None = None

    @property
    def takes_clicks(self) -> bool:
        return self.tool in CLICKED or self.tool in (RECTANGLE, LASSO)

    @property
    def needs_depth(self) -> bool:
        return self.tool in DRAGGED

    def choose(self, tool: str) -> None:
        """Hear what this tool needs, and nothing else."""
        self._scene.remove_click_callback(self._clicked)
        self._scene.remove_rect_select_callback(self._rectangle)
        while self._canvas:
            self._canvas.pop().remove()
        self._show_line(())
        self.tool = tool
        if tool in CLICKED:
            for modifier in MODIFIERS:
                self._scene.on_click(modifier=modifier)(self._clicked)
        if tool == RECTANGLE:
            for modifier in MODIFIERS:
                self._scene.on_rect_select(modifier=modifier)(self._rectangle)
        if tool in DRAGGED:
            self._canvas = self._make_canvas()

    def _make_canvas(self) -> list[viser.ImageHandle]:
        """The inner sides of a cube around everything, which are heard when somebody drags on them."""
        sides = []
        for index, (axis, end) in enumerate((axis, end) for axis in range(3) for end in (-1, 1)):
            place = np.zeros(3)
            place[axis] = end * FAR_AWAY
            turned = np.roll(np.eye(3), 2 - axis, axis=1)  # the last column is the side's normal
            side = self._scene.add_image(
                f"/edit/canvas/{index}", CLEAR, 2 * FAR_AWAY, 2 * FAR_AWAY, cast_shadow=False,
                receive_shadow=False, wxyz=viser.transforms.SO3.from_matrix(turned).wxyz, position=place,
            )  # fmt: skip
            for modifier in MODIFIERS:
                side.on_drag("left", modifier=modifier)(self._dragged)
            sides.append(side)
        return sides

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        self._drawn(Gesture(self.tool, (event.screen_pos,), event.modifier, self._window()), True)

    def _rectangle(self, event: viser.SceneRectSelectEvent) -> None:
        (left, top), (right, bottom) = event.screen_min, event.screen_max
        corners = (left, top), (right, top), (right, bottom), (left, bottom)
        self._drawn(Gesture(self.tool, corners, event.modifier, self._window()), True)

    async def _dragged(self, event: viser.SceneNodeDragEvent) -> None:
        # In viser's own thread, for other threads may take the events in another order.
        if event.phase == "start" or self._camera is None:
            self._points, self._camera = [event.start_screen_pos], self._window()
        self._points.append(event.end_screen_pos)
        gesture = Gesture(self.tool, tuple(self._points), event.modifier, self._camera)
        has_ended = event.phase == "end"
        if self.tool == LASSO:
            self._show_line(() if has_ended else gesture.points)
        if has_ended:
            self._camera = None
        self._drawn(gesture, has_ended)

    def _show_line(self, points: tuple[tuple[float, float], ...]) -> None:
        """Draw a closed line over the picture; nothing for fewer than two points."""
        camera = self._camera
        if len(points) < 2 or camera is None:
            if self._line is not None:
                self._line.visible = False
            return
        depths = torch.full((len(points),), LINE_DEPTH / self._space.scale, dtype=torch.float64)
        pixels = torch.tensor(points, dtype=torch.float64) * torch.tensor([camera.width, camera.height])
        places = self._space.points(camera.unproject(pixels, depths).numpy()).astype(np.float32)
        ends = np.stack([places, np.roll(places, -1, axis=0)], axis=1)
        if self._line is None:
            self._line = self._scene.add_line_segments(
                "/edit/line", ends, LINE_COLOR, thickness=2.0, thickness_units="screen"
            )
        self._line.points, self._line.visible = ends, True
