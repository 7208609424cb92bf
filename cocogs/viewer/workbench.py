"""A visitor's editing: the tools in the picture, what they select, and how it is shown."""

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
import viser
from jaxtyping import Bool, Float64
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.editor import ADD, INTERSECT, REMOVE, SET, Editor, Shown
from cocogs.edit.floaters import floaters
from cocogs.edit.frame import Directions, directions, middle_and_foot
from cocogs.edit.objects import big_planes, completed, mask_votes, region_at
from cocogs.edit.region import box_around, flood, in_region, in_turned_box, polygon, seen, stroke
from cocogs.edit.select import color_at, in_sphere, like_color
from cocogs.edit.subject import Subject
from cocogs.errors import InputError
from cocogs.render.refocusing import sharp_picture
from cocogs.render.surface_view import SurfaceView, surface_view
from cocogs.threads import torch_on_one
from cocogs.viewer.gizmo import Gizmo, Pose, box_outline, sphere_outline
from cocogs.viewer.highlight import Marks
from cocogs.viewer.pointer import BOX, BRUSH, COLOR, FLOOD, MOVE, OBJECT, SPHERE, Gesture, Pointer
from cocogs.viewer.space import ViewerSpace

if TYPE_CHECKING:
    from cocogs.viewer.session import Session

HOW = {"shift": ADD, "cmd/ctrl": REMOVE, "cmd/ctrl+shift": INTERSECT}
WORKING = 400  # px of the longer side of the pictures in which objects and colours are looked for
UNMOVED = 1e-9  # of a rotation's entries, or scene units
SMALL = 0.2  # of the focus distance: size of a box where nothing is selected

Mask = Bool[Tensor, " N"]


@dataclass
class Settings:
    """Of the tools.

    Args:
        how: what a gesture without keys does to the selection.
        only_seen: drawing selects only splats that nothing hides.
        radius: of the brush, px of the window's picture.
        tolerance: of colours, sRGB.
        size: of the box, scene units.
        sphere: its radius, scene units.
        highlight: the selection is tinted.
    """

    how: str = SET
    only_seen: bool = False
    radius: float = 20.0
    tolerance: float = 0.1
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sphere: float = 0.5
    highlight: bool = True


class Workbench:
    """What one visitor edits. The editor is used by one thread, `_work`, which does what `do` is given.

    Args:
        changed: called after every action, to show the state.
    """

    def __init__(
        self, subject: Subject, scene: viser.SceneApi, space: ViewerSpace, session: "Session"
    ) -> None:
        self.editor, self.settings = Editor(subject), Settings()
        self.changed: Callable[[], None] = lambda: None
        self._session = session
        self._pointer = Pointer(scene, space, session.window, self._gesture)
        self._move = Gizmo(scene, space, "move", True, self._dragged)
        self._box = Gizmo(scene, space, "box", True, lambda pose, ended: None)
        self._sphere = Gizmo(scene, space, "sphere", False, lambda pose, ended: None)
        self._level = level_axes(subject)
        self._rest = Pose(self._level, torch.zeros(3).double())
        self._surface: tuple[Shown, Camera, SurfaceView] | None = None
        self._seen: tuple[Shown, Camera, Mask] | None = None
        self._showing = self.editor.shown, self.editor.state
        self._counting, self._waiting = threading.Lock(), 0
        self._work, aside = ThreadPoolExecutor(1, "cocogs-edit"), ThreadPoolExecutor(1, "cocogs-planes")
        # Floors and walls, which take seconds: they are found once, before the first click.
        self._planes = aside.submit(big_planes, subject.gaussians, subject.cameras)
        aside.shutdown(wait=False)

    def close(self) -> None:
        self._work.shutdown(wait=False, cancel_futures=True)

    @property
    def tool(self) -> str:
        return self._pointer.tool

    @property
    def takes_clicks(self) -> bool:
        return self._pointer.takes_clicks

    @property
    def needs_depth(self) -> bool:
        return self._pointer.needs_depth

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, which needs the processor more than a finer picture."""
        return self._waiting > 0

    def do(self, action: Callable[[], None]) -> None:
        """Let the thread of this workbench change something, and show what has become of it."""
        with self._counting, suppress(RuntimeError):  # the visitor has left
            self._work.submit(self._done, action)
            self._waiting += 1
        self._session.refresh()

    def _done(self, action: Callable[[], None]) -> None:
        try:
            with torch_on_one():
                action()
        except InputError as error:
            self._session.notify("Not done", str(error))
        except Exception:  # a bug of ours: report it, and keep the viewer alive
            traceback.print_exc()
        with self._counting:
            self._waiting -= 1
        self.show()

    def rest(self, camera: Camera) -> None:
        """The view has come to rest here: see beforehand what a click needs."""
        if self.tool == OBJECT:
            with suppress(RuntimeError):  # the visitor has left
                self._work.submit(self._surface_of, self._showing[0], working(camera))

    def show(self) -> None:
        """Show the scene as it is edited, the selection, and the gizmo on it."""
        editor, shown, selected = self.editor, self.editor.shown, self.editor.selected
        self._showing = shown, editor.state
        marks = None
        if self.settings.highlight and selected.any():
            marks = Marks(shown.gaussians, lambda: shown.of(selected))
        self._session.show_scene(lambda: shown.gaussians, marks)
        if self.tool == MOVE and selected.any():
            middle, _ = middle_and_foot(editor.subject.gaussians, selected, self._level[:, 2])
            self._rest = Pose(self._level, middle)
            self._move.put(self._rest)
        else:
            self._move.hide()
        self.changed()

    # Tools.

    def choose(self, tool: str) -> None:
        """Take a tool."""
        self._pointer.choose(tool)
        for gizmo, name in ((self._box, BOX), (self._sphere, SPHERE)):
            if tool == name:
                self._place(gizmo)
            else:
                gizmo.hide()

    def _place(self, gizmo: Gizmo) -> None:
        """Around the selection, else where it was, else in the middle of the picture."""
        editor, settings = self.editor, self.settings
        if gizmo.was_put and not editor.selected.any():
            gizmo.put(gizmo.pose)
            return
        if editor.selected.any():
            middle, size = box_around(editor.subject.gaussians, editor.selected, self._level)
        else:
            distance = self._session.lens.focus_distance
            camera = self._session.window()
            center = torch.tensor([[camera.width / 2, camera.height / 2]], dtype=torch.float64)
            middle = camera.unproject(center, torch.tensor([distance], dtype=torch.float64))[0]
            size = torch.full((3,), SMALL * distance, dtype=torch.float64)
        settings.size, settings.sphere = tuple(size.tolist()), float(size.max()) / 2
        gizmo.put(Pose(self._level, middle))
        self.outline()

    def outline(self) -> None:
        """Draw the box and the sphere as large as they are now."""
        self._box.outline(box_outline(torch.tensor(self.settings.size).double()))
        self._sphere.outline(sphere_outline(self.settings.sphere))

    def inside(self) -> Mask:
        """The splats in the box or in the sphere, whichever tool is taken.

        Raises:
            InputError: neither is.
        """
        gaussians = self.editor.subject.gaussians
        if self.tool == BOX:
            pose, size = self._box.pose, torch.tensor(self.settings.size).double()
            return in_turned_box(gaussians, pose.position, pose.rotation, size)
        if self.tool == SPHERE:
            return in_sphere(gaussians, self._sphere.pose.position, self.settings.sphere)
        raise InputError(f"Take the tool {BOX} or {SPHERE} first.")

    def crop(self) -> None:
        """Delete all but what the box or sphere holds; with other tools, all but the selection."""
        self.editor.crop(self.inside() if self.tool in (BOX, SPHERE) else self.editor.selected)

    def copy(self) -> None:
        """Put a copy to the right of the selection, as the visitor sees it, and select it."""
        editor, still = self.editor, torch.eye(3, dtype=torch.float64)
        right = self._session.window().cam_from_world[0, :3].double()
        width = torch.zeros(()).double()
        if editor.selected.any():
            _, size = box_around(editor.subject.gaussians, editor.selected, self._level)
            width = (self._level.T @ right).abs() @ size
        editor.move(still, width * right, copy=True)

    def select_floaters(self) -> None:
        shown = self.editor.shown
        mask = floaters(shown.gaussians, self.editor.subject.cameras)
        if not mask.any():
            raise InputError("No floaters were found.")
        self.editor.select(shown.in_scene(mask), self.settings.how)

    def save(self) -> None:
        """Write the edits; visitors who come from now on see them."""
        self.editor.save()
        whole = self.editor.whole
        self._session.publish(lambda: whole)

    # Gestures.

    def _gesture(self, gesture: Gesture, has_ended: bool) -> None:
        how = HOW.get(gesture.modifier or "", self.settings.how)
        if has_ended:
            self.do(partial(self._select, gesture, how))
        elif gesture.tool == BRUSH:
            self._preview(how, partial(self._drawn, gesture))

    def _preview(self, how: str, some: Callable[[Shown], Mask]) -> None:
        """Highlight what would be selected."""
        shown, state = self._showing

        def marked() -> Mask:
            return shown.of(state.selecting(shown.in_scene(some(shown)), how))

        marks = Marks(shown.gaussians, marked) if self.settings.highlight else None
        self._session.show_scene(lambda: shown.gaussians, marks)

    def _select(self, gesture: Gesture, how: str) -> None:
        shown = self.editor.shown
        if gesture.tool == OBJECT:
            mask = self._object(shown, gesture, how)
        elif gesture.tool == COLOR:
            x, y = in_px(gesture, gesture.camera)
            color = color_at(shown.gaussians, gesture.camera, x, y)
            mask = like_color(shown.gaussians, color, self.settings.tolerance)
        else:
            mask = self._drawn(gesture, shown)
        self.editor.select(shown.in_scene(mask), how)

    def _object(self, shown: Shown, gesture: Gesture, how: str) -> Mask:
        camera = working(gesture.camera)
        region = region_at(self._surface_of(shown, camera), self._planes.result(), *in_px(gesture, camera))
        votes = mask_votes(shown.gaussians, [(camera, region)])
        self._preview(how, lambda _: votes.sure)  # at once; what is hidden takes longer
        return completed(shown.gaussians, votes)

    def _drawn(self, gesture: Gesture, shown: Shown) -> Mask:
        """The splats in what was drawn on the picture."""
        camera = gesture.camera
        if gesture.tool == BRUSH:
            region = stroke(camera, gesture.points, self.settings.radius)
        elif gesture.tool == FLOOD:
            camera = working(camera)
            picture = sharp_picture(shown.gaussians, camera)
            region = flood(picture, *in_px(gesture, camera), self.settings.tolerance)
        else:
            region = polygon(camera, gesture.points)
        mask = in_region(shown.gaussians, camera, region)
        return mask & self._seen_from(shown, gesture.camera) if self.settings.only_seen else mask

    # What is the same from gesture to gesture.

    def _surface_of(self, shown: Shown, camera: Camera) -> SurfaceView:
        last = self._surface
        if last is None or last[0] is not shown or not same_view(last[1], camera):
            last = self._surface = shown, camera, surface_view(shown.gaussians, camera)
        return last[2]

    def _seen_from(self, shown: Shown, camera: Camera) -> Mask:
        last = self._seen
        if last is None or last[0] is not shown or not same_view(last[1], camera):
            last = self._seen = shown, camera, seen(shown.gaussians, camera)
        return last[2]

    # The gizmo.

    def _dragged(self, pose: Pose, has_ended: bool) -> None:
        """Show the selection where it is dragged; once it is released, note the edit."""
        rotation, translation = pose.since(self._rest)
        if has_ended:
            self.do(partial(self._moved, pose))
            return
        shown, state = self._showing
        moved = partial(shown.moved, shown.of(state.selected), rotation, translation)
        self._session.show_scene(cache(moved), None)

    def _moved(self, pose: Pose) -> None:
        rotation, translation = pose.since(self._rest)
        if max((rotation - torch.eye(3)).abs().max(), translation.abs().max()) > UNMOVED:
            self.editor.move(rotation, translation)


def working(camera: Camera) -> Camera:
    return camera.resized_by(camera.shrink_to(WORKING))


def in_px(gesture: Gesture, camera: Camera) -> tuple[float, float]:
    """The last point of a gesture in the picture of a camera of the window."""
    x, y = gesture.points[-1]
    return x * camera.width, y * camera.height


def same_view(a: Camera, b: Camera) -> bool:
    same_size = (a.width, a.height) == (b.width, b.height)
    same_place = torch.equal(a.cam_from_world, b.cam_from_world)
    return same_size and same_place and torch.equal(a.intrinsics, b.intrinsics)


def level_axes(subject: Subject) -> Float64[Tensor, "3 3"]:
    """Columns: to the right, away and up, as the cameras see the scene."""
    try:
        frame: Directions = directions(subject, "cameras", None)
    except InputError:  # they look straight down
        return torch.eye(3, dtype=torch.float64)
    return torch.stack([frame.right, frame.away, frame.up], dim=1)
