"""The controls of films: pull the focus, move the camera, save either as a path."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import viser

from cocogs.io.camera_path import CameraPath, LensSetting, PathFrame
from cocogs.render.options import FPS
from cocogs.render.paths import fill_in
from cocogs.viewer.dial import fine_step, within

if TYPE_CHECKING:
    from cocogs.viewer.session import Session

NEAREST = 0.1  # times the smallest depth of the scene: how near a focus pull may begin or end
NO_VIEWS = "Go somewhere, then click Add; a path needs at least two views."
ADD, REMOVE, CLEAR = "Add", "Remove last", "Clear"


class Player:
    """Shows frames one after the other, each at its time, in a thread of its own."""

    def __init__(self, show: Callable[[PathFrame], None], stopped: Callable[[], None]) -> None:
        self._show, self._stopped = show, stopped
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_playing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def play(self, frames: Sequence[PathFrame]) -> None:
        self.stop()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(frames,), name="cocogs-play", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, frames: Sequence[PathFrame]) -> None:
        began = time.monotonic()
        index = 0
        while index < len(frames) - 1 and not self._stop.wait(1 / FPS):
            index = min(int((time.monotonic() - began) * FPS), len(frames) - 1)  # late frames are skipped
            self._show(frames[index])
        self._stopped()


class FilmPanel:
    """Two folders of controls: a focus pull from where the visitor is, and a path through chosen views."""

    def __init__(self, gui: viser.GuiApi, session: "Session") -> None:
        self._gui, self._session = gui, session
        self._keyframes: list[PathFrame] = []
        self._play_buttons: list[viser.GuiButtonHandle] = []
        self._player = Player(session.show_frame, self._show_stopped)
        with gui.add_folder("Focus pull", expand_by_default=False):
            self._add_pull()
        with gui.add_folder("Camera path", expand_by_default=False):
            self._add_path()

    def close(self) -> None:
        self._player.stop()

    def _add_pull(self) -> None:
        gui, session = self._gui, self._session
        self._unit = 1.0  # of the two distances, in scene units
        start = self._start = gui.add_number("From", 1.0, hint="Focus distance at the beginning.")
        end = self._end = gui.add_number("To", 1.0, hint="Focus distance at the end.")
        start.value, end.value = session.depth_range
        self.show_unit()
        take = gui.add_button_group("Take focus", ("as From", "as To"), hint="The focus that is set now.")

        @take.on_click
        def _(_: viser.GuiEvent) -> None:
            target = start if take.value == "as From" else end
            target.value = float(f"{session.lens.focus_distance * session.distance_unit[1]:.4g}")

        seconds = gui.add_number("Seconds", 4.0, min=0.1, max=600.0, step=0.1)

        def frames() -> list[PathFrame]:
            camera, aperture = session.framed(), session.lens.aperture_diameter
            unit = session.distance_unit[1]
            lenses = [LensSetting(within(distance) / unit, aperture) for distance in (start, end)]
            return fill_in([PathFrame(camera, lens) for lens in lenses], frame_count(within(seconds)))

        self._add_buttons(frames, "focus-pull")

    def show_unit(self) -> None:
        """Show the distances in the unit that the visitor has chosen."""
        label, unit = self._session.distance_unit
        nearest = NEAREST * self._session.depth_range[0] * unit
        step = fine_step(nearest)
        for field, name in ((self._start, "From"), (self._end, "To")):
            field.label, field.step = f"{name}{label}", step
            field.precision = max(0, -round(math.log10(step)))
            field.min, value = min(nearest, field.min or nearest), field.value / self._unit * unit
            field.value, field.min = float(f"{value:.3g}"), nearest
        self._unit = unit

    def _add_path(self) -> None:
        gui, session = self._gui, self._session
        status = gui.add_markdown(NO_VIEWS)
        edit = gui.add_button_group(
            "View", (ADD, REMOVE, CLEAR), hint="The present view, with focus and aperture."
        )

        def describe() -> None:
            count = len(self._keyframes)
            session.show_path([frame.camera for frame in self._keyframes])
            status.content = f"{count} views." if count else NO_VIEWS

        @edit.on_click
        def _(_: viser.GuiEvent) -> None:
            if edit.value == ADD:
                self._keyframes.append(session.frame())
            elif edit.value == CLEAR:
                self._keyframes.clear()
            elif self._keyframes:
                self._keyframes.pop()
            describe()

        seconds = gui.add_number(
            "Seconds each", 2.0, min=0.1, max=600.0, step=0.1, hint="From one view to the next."
        )

        def frames() -> list[PathFrame]:
            if len(self._keyframes) < 2:
                return []
            return fill_in(self._keyframes, frame_count(within(seconds) * (len(self._keyframes) - 1)))

        self._add_buttons(frames, "path")

    def _add_buttons(self, frames: Callable[[], list[PathFrame]], name: str) -> None:
        gui, session = self._gui, self._session
        play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY)
        save = gui.add_button(
            "Save path", icon=viser.Icon.DOWNLOAD, hint="For cocogs render --path FILE.json.", color="gray"
        )
        self._play_buttons.append(play)

        @play.on_click
        def _(_: viser.GuiEvent) -> None:
            if self._player.is_playing:
                self._player.stop()
            elif chosen := frames():
                for button in self._play_buttons:
                    button.label, button.icon = "Stop", viser.Icon.PLAYER_STOP
                self._player.play(chosen)
            else:
                session.notify("Add two views first", "A path needs at least two views.")

        @save.on_click
        def _(_: viser.GuiEvent) -> None:
            if chosen := frames():
                session.save_path(CameraPath(FPS, chosen), name)
            else:
                session.notify("Add two views first", "A path needs at least two views.")

    def _show_stopped(self) -> None:
        for button in self._play_buttons:
            button.label, button.icon = "Play", viser.Icon.PLAYER_PLAY


def frame_count(seconds: float) -> int:
    return max(2, round(seconds * FPS) + 1)
