"""A single photo in the browser: what is clicked becomes sharp, a dial sets the f-number, and the photo as it
was is a key away."""

import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import viser
from PIL import Image

from cocogs.errors import InputError
from cocogs.io.pictures import to_picture
from cocogs.optics.lens import Lens
from cocogs.photo.depth import METRES
from cocogs.photo.opened import OpenedPhoto
from cocogs.photo.refocus import DepthPhoto
from cocogs.quantiles import quantiles
from cocogs.srgb import to_srgb
from cocogs.viewer.dial import Dial, among
from cocogs.viewer.panel import (
    BLADES,
    BLADES_HINT,
    BRIGHTEST,
    FULL_TURN,
    HIGHLIGHTS_HINT,
    ROUND,
    SMALLEST_OPENING,
    STOP_HINT,
)
from cocogs.viewer.request import PHOTO, REFOCUSED
from cocogs.viewer.schedule import AbandonedError, Effort, RenderLoop
from cocogs.viewer.server import Page
from cocogs.viewer.session import COARSE_QUALITY, STILL_QUALITY

LARGEST_SIDE = 1280  # px of the picture on the screen; larger ones take more than a second on two cores
F_NUMBERS = 0.95, SMALLEST_OPENING
START_F_NUMBER = 2.8
MOST_APERTURE = 4.0  # times the photo's own
CROWDED = 0.01  # of the photo: if so much keeps more blur than asked for, the visitor is told
CLICK_HINT = "What you click becomes sharp."


@dataclass(frozen=True)
class Wish:
    """What is to be drawn: for a window of width x height px, the photo refocused or as it was."""

    width: int
    height: int
    lens: Lens
    show: str


@dataclass(frozen=True)
class Frame:
    """Where the photo lies in a window, px."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def within(cls, width: int, height: int, photo: DepthPhoto) -> "Frame":
        """As large as fits, in the middle."""
        rows, columns = photo.depth.shape
        scale = min(width / columns, height / rows)
        w, h = max(1, min(width, round(columns * scale))), max(1, min(height, round(rows * scale)))
        return cls((width - w) // 2, (height - h) // 2, w, h)


class PhotoSession:
    """One visitor of a photo. Threads of viser change it; see `Session`."""

    def __init__(self, client: viser.ClientHandle, photo: OpenedPhoto) -> None:
        self._client, self.photo = client, photo
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._screen: DepthPhoto | None = None
        self.start = start_lens(photo)
        self.lens, self.show = self.start, REFOCUSED
        self.drawn: tuple[Wish, Effort] | None = None  # what is on the screen
        self._panel = PhotoPanel(client.gui, self)
        self._loop: RenderLoop[Wish] = RenderLoop(self._draw)
        client.scene.on_click()(self._on_click)
        client.camera.on_update(lambda _: self.refresh())
        self.refresh()

    def close(self) -> None:
        self._closed.set()
        self._loop.close()

    def turn_lens(self, **changes: Any) -> None:
        """Change some properties of the lens, and show the photo through it."""
        with self._lock:
            self.lens, self.show = replace(self.lens, **changes), REFOCUSED
            self._panel.sync()
            self.refresh()

    def set_show(self, mode: str) -> None:
        with self._lock:
            self.show = mode
            self.refresh()

    def refresh(self) -> None:
        """Ask for a picture of the present state, unless it is the one last asked for."""
        with self._lock:
            wish = self._wish()
            if wish != self._panel.asked:
                self._panel.asked = wish
                self._loop.submit(wish, (0,))

    def save_picture(self) -> None:
        """Send the photo through the lens, in full size, as a PNG."""
        with self._lock:
            wish = self._wish()
        height, width = self.photo.picture.depth.shape
        note = self._client.add_notification(
            "Drawing the picture", f"{width} × {height}", loading=True, with_close_button=False
        )

        def check(share: float) -> None:
            if self._closed.is_set():
                raise AbandonedError
            note.body = f"{width} × {height} · {share:.0%}"

        try:
            picture, _ = drawn(self.photo.picture, wish, check)
        except AbandonedError:
            return
        except InputError as error:
            self._client.add_notification("Not drawn", str(error), auto_close_seconds=6.0)
            return
        finally:
            note.remove()
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        name = f"{self.photo.path.stem}-refocused.png"
        self._client.send_file_download(name, buffer.getvalue(), save_immediately=True)

    def _wish(self) -> Wish:
        viewer = self._client.camera
        width, height = max(viewer.image_width, 1), max(viewer.image_height, 1)
        shrink = min(1.0, LARGEST_SIDE / max(width, height))
        return Wish(max(1, round(width * shrink)), max(1, round(height * shrink)), self.lens, self.show)

    def _on_click(self, event: viser.SceneClickEvent) -> None:
        wish, picture = self._wish(), self.photo.picture
        frame = Frame.within(wish.width, wish.height, picture)
        rows, columns = picture.depth.shape
        x = (event.screen_pos[0] * wish.width - frame.left) / frame.width * columns
        y = (event.screen_pos[1] * wish.height - frame.top) / frame.height * rows
        try:
            distance = picture.depth_at(x, y)
        except InputError:  # beside the photo
            return
        self.turn_lens(focus_distance=distance)

    def _draw(self, wish: Wish, effort: Effort, check: Callable[[], None]) -> None:
        """Called by the thread of the render loop."""
        frame = Frame.within(wish.width, wish.height, self.photo.picture)
        if self._screen is None or self._screen.depth.shape != (frame.height, frame.width):
            self._screen = self.photo.picture.resized(frame.width, frame.height)
        picture = self._screen
        if effort.scale < 1:
            sides = (max(1, round(side * effort.scale)) for side in (frame.width, frame.height))
            picture = picture.resized(*sides)
        try:
            shown, kept = drawn(picture, wish, lambda share: check())
        except InputError as error:  # a lens out of range
            self._panel.tell(str(error))
            return
        check()
        window = Image.new("RGB", (wish.width, wish.height))
        window.paste(shown.resize((frame.width, frame.height)), (frame.left, frame.top))
        quality = COARSE_QUALITY if effort.is_coarse else STILL_QUALITY
        self._client.scene.set_background_image(np.asarray(window), jpeg_quality=quality)
        self.drawn = wish, effort
        if not effort.is_coarse:
            self._panel.tell(describe(wish, frame, kept))


class PhotoPanel:
    """The controls beside the photo."""

    def __init__(self, gui: viser.GuiApi, session: PhotoSession) -> None:
        self._gui, self._session = gui, session
        self.asked: Wish | None = None
        modes = REFOCUSED, PHOTO
        buttons = gui.add_button_group("Show", modes, hint="Before and after: keys 1 and 2.")
        buttons.on_click(lambda _: session.set_show(among(modes, buttons.value)))
        for number, mode in enumerate(modes, start=1):
            command = gui.add_command(f"Show: {mode}", hotkey=str(number))  # type: ignore[arg-type]
            command.on_trigger(lambda _, mode=mode: session.set_show(mode))
        self._status = gui.add_markdown("")
        with gui.add_folder("Lens"):
            self._dials = [self._add_focus(), self._add_aperture(), *self._add_looks()]
            reset = gui.add_button("Reset", color="gray")
            reset.on_click(lambda _: session.turn_lens(**vars(session.start)))
        with gui.add_folder("Picture"):
            self._add_saving()
        with gui.add_folder("Depth and lens"):
            gui.add_markdown(told(session.photo))
        self.sync()

    def sync(self) -> None:
        """Show the lens of the session."""
        lens = self._session.lens
        for dial in self._dials:
            dial.sync(lens)
        self._blades.value = str(lens.blades or ROUND)
        self._dials[2].handle.visible = lens.blades > 0

    def tell(self, status: str) -> None:
        if status != self._status.content:
            self._status.content = status

    def _add_focus(self) -> Dial:
        depth, set_lens = self._session.photo.depth, self._session.turn_lens
        near, far = distances(self._session.photo)
        unit = {METRES: " (m)", None: " (×)"}.get(depth.unit, "")
        return Dial(
            self._gui, f"Focus{unit}", CLICK_HINT, (near, far), lambda lens: lens.focus_distance,
            lambda distance: set_lens(focus_distance=distance), self._session.lens,
        )  # fmt: skip

    def _add_aperture(self) -> Dial:
        camera, set_lens, lens = self._session.photo.camera, self._session.turn_lens, self._session.lens
        length = camera.focal_length
        if length is not None:
            return Dial(
                self._gui, "f-number", STOP_HINT, F_NUMBERS,
                lambda lens: min(length / max(lens.aperture_diameter, 1e-12), F_NUMBERS[1]),
                lambda number: set_lens(aperture_diameter=length / number), lens,
            )  # fmt: skip
        own = camera.multiple(1.0)
        return Dial(
            self._gui, "Aperture (×)", "As a multiple of the aperture that the photo was taken with.",
            (0.0, MOST_APERTURE), lambda lens: lens.aperture_diameter / own,
            lambda factor: set_lens(aperture_diameter=factor * own), lens,
        )  # fmt: skip

    def _add_looks(self) -> list[Dial]:
        gui, lens, set_lens = self._gui, self._session.lens, self._session.turn_lens
        self._blades = gui.add_dropdown("Blades", BLADES, hint=BLADES_HINT)

        @self._blades.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                choice = among(BLADES, self._blades.value)
                set_lens(blades=0 if choice == ROUND else int(choice))

        turn = Dial(
            gui, "Rotation (°)", "Turns the blades.", (0.0, FULL_TURN), lambda lens: lens.blade_rotation,
            lambda degrees: set_lens(blade_rotation=degrees), lens,
        )  # fmt: skip
        glow = Dial(
            gui, "Highlights", HIGHLIGHTS_HINT, (1.0, BRIGHTEST), lambda lens: lens.highlights,
            lambda white: set_lens(highlights=white), lens,
        )  # fmt: skip
        return [turn, glow]

    def _add_saving(self) -> None:
        save = self._gui.add_button("Save picture", icon=viser.Icon.CAMERA, hint="PNG, in the photo's size.")

        @save.on_click
        def _(_: viser.GuiEvent) -> None:
            save.disabled = True
            try:
                self._session.save_picture()
            finally:
                save.disabled = False


def told(photo: OpenedPhoto) -> str:
    """Where depth and lens come from and what was assumed, without the folder that the photo lies in."""
    source = photo.depth.source[:1].upper() + photo.depth.source[1:]
    text = "\n\n".join([f"Depth: {source}.", *photo.depth.warnings, *photo.camera.notes])
    return text.replace(f"{photo.path.parent}{os.sep}", "")


def photo_page(photo: OpenedPhoto, host: str, port: int) -> Page[PhotoSession]:
    """The page of a photo; see `Page`."""
    return Page(photo.path.name, lambda client: PhotoSession(client, photo), host, port)


def start_lens(photo: OpenedPhoto) -> Lens:
    """The photo's own lens where it is known, else f/`START_F_NUMBER`, focused on the middle."""
    taken, picture = photo.camera.taken, photo.picture
    if taken is not None:
        return Lens(float(taken.focus_distance), float(taken.K) / photo.camera.focal_px)
    height, width = picture.depth.shape
    near, far = distances(photo)
    distance = min(max(picture.depth_at(width / 2, height / 2), near), far)
    if photo.camera.focal_length is None:
        return Lens(distance, photo.camera.multiple(1.0))
    return Lens(distance, photo.camera.diameter(START_F_NUMBER))


def distances(photo: OpenedPhoto) -> tuple[float, float]:
    """The least and the largest focus distance that makes sense, in the unit of the depth."""
    near, far = quantiles(photo.depth.depth, 0.01, 0.99).tolist()
    far = min(far, 100 * near)  # a slider is even; what lies beyond can be clicked
    return near, max(far, 1.01 * near)


def drawn(photo: DepthPhoto, wish: Wish, check: Callable[[float], None]) -> tuple[Image.Image, float]:
    """The photo refocused or as it was, in its own size, and the part of it that keeps more blur than the
    lens gives."""
    if wish.show == PHOTO:
        return to_picture(to_srgb(photo.light)), 0.0
    refocused = photo.refocused(wish.lens, check=check)
    return to_picture(to_srgb(refocused.light)), float(refocused.refused.float().mean())


def describe(wish: Wish, frame: Frame, kept: float) -> str:
    """What is on the screen, in a few words."""
    text = f"{wish.show} · {frame.width} × {frame.height}"
    if kept < CROWDED:
        return text
    return f"{text}\n\n{kept:.0%} of the photo is blurred more than by this lens, and stays so."
