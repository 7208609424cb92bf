"""The controls beside the picture: the lens, the photos, and saving what is seen."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import viser

from cocogs.optics.lens import Lens, depth_of_field
from cocogs.viewer.dial import Dial, among, within
from cocogs.viewer.edit_panel import add_edit_panel
from cocogs.viewer.exhibit import Exhibit
from cocogs.viewer.film_panel import FilmPanel
from cocogs.viewer.request import PHOTO, REFOCUSED, SHARP

if TYPE_CHECKING:
    from cocogs.viewer.session import Session

CAMERA_UNITS, SCENE_UNITS = "As on a camera", "Scene units"
BACK, RETURN, FORTH = "◀ Previous", "Return", "Next ▶"
LARGEST_APERTURE = 4.0  # times the aperture at the start
SMALLEST_OPENING = 16.0  # f-number
ROUND = "Round"
BLADES = (ROUND, *map(str, range(3, 13)))
FULL_TURN = 120.0  # degrees; after such a turn even three blades look the same
BRIGHTEST = 16.0  # times white; beyond it single splats stand out
SHARP_ENOUGH = 1 / 1200  # circle of confusion as a part of the picture's width that still looks sharp
PICTURE_WIDTH, LARGEST_PICTURE = 1600, 8192  # px
FOCUS_HINT = "The distance that is sharp. You can also click in the picture."
APERTURE_HINT = "Diameter of the lens in scene units: the wider, the softer what is out of focus."
BLADES_HINT = (
    "Blades of the aperture, whose shape out-of-focus highlights take once the picture stands still."
)
HIGHLIGHTS_HINT = "How bright clipped white really was; higher values make out-of-focus points stand out."
STOP_HINT = "As on a camera: the smaller the number, the softer what is out of focus."


class Panel:
    """The controls of one visitor: they change the session, and show its state."""

    def __init__(self, gui: viser.GuiApi, exhibit: Exhibit, session: "Session") -> None:
        self._gui, self._exhibit, self._session = gui, exhibit, session
        modes = (REFOCUSED, SHARP, PHOTO) if exhibit.shows_photos else (REFOCUSED, SHARP)
        buttons = gui.add_button_group("Show", modes, hint=f"Keys 1 to {len(modes)}.")
        buttons.on_click(lambda _: session.set_show(among(modes, buttons.value)))
        for number, mode in enumerate(modes, start=1):
            command = gui.add_command(f"Show: {mode}", hotkey=str(number))  # type: ignore[arg-type]
            command.on_trigger(lambda _, mode=mode: session.set_show(mode))
        self._status = gui.add_markdown("")
        with gui.add_folder("Lens"):
            self._add_lens()
        if exhibit.photos:
            with gui.add_folder("Photos"):
                self._add_photos()
        self.film = FilmPanel(gui, session)
        if exhibit.target is not None:
            add_edit_panel(gui, session)
        with gui.add_folder("Picture"):
            self._add_saving()
        self.sync()

    def close(self) -> None:
        self.film.close()

    def sync(self) -> None:
        """Show the lens of the session."""
        for dial in self._dials:
            dial.sync(self._session.lens)
        self._sharp_range.content = self._describe_sharp_range(self._session.lens)
        self._blades.value = str(self._session.lens.blades or ROUND)

    def show_looks(self, visible: bool) -> None:
        """Show the controls of blades and highlights, or hide them where they change nothing."""
        has_corners = self._session.lens.blades > 0
        controls = (self._blades, visible), (self._turn, visible and has_corners), (self._glow, visible)
        for control, shown in controls:
            if control.visible != shown:
                control.visible = shown

    def choose_photo(self, index: int) -> None:
        """Show which photo is visited."""
        self._photo.value = self._exhibit.photos[index].name

    def tell(self, status: str) -> None:
        """Show what is being drawn."""
        if status != self._status.content:
            self._status.content = status

    def _add_lens(self) -> None:
        gui, session = self._gui, self._session
        scene, camera = self._scene_dials(), self._camera_dials()
        self._dials = scene + camera + [self._add_blades(), self._add_highlights()]
        self._sharp_range = gui.add_markdown("")
        gui.add_markdown(self._exhibit.about_metres)
        if camera:
            self._add_units(scene, camera)
        self.click_focuses = gui.add_checkbox("Click focuses", True, hint="What you click becomes sharp.")
        label = "The photo's lens" if self._exhibit.photos else "Reset"
        reset = gui.add_button(label, hint="Focus, aperture and blades as at the start.", color="gray")
        reset.on_click(lambda _: session.reset_lens())

    def _scene_dials(self) -> list[Dial]:
        lens = self._session.lens
        return [
            Dial(
                self._gui, "Focus", FOCUS_HINT, self._exhibit.depth_range,
                lambda lens: lens.focus_distance, self._set_focus, lens,
            ),
            Dial(
                self._gui, "Aperture", APERTURE_HINT, (0.0, self._widest),
                lambda lens: lens.aperture_diameter, self._set_aperture, lens,
            ),
        ]  # fmt: skip

    def _camera_dials(self) -> list[Dial]:
        """Distance in metres and f-number, as far as EXIF allows."""
        dials, lens, (near, far) = [], self._session.lens, self._exhibit.depth_range
        if (metres := self._exhibit.metres) is not None:
            dials.append(
                Dial(
                    self._gui, "Focus (m)", FOCUS_HINT, (near * metres, far * metres),
                    lambda lens: lens.focus_distance * metres, lambda z: self._set_focus(z / metres), lens,
                )
            )  # fmt: skip
        if (focal_length := self._exhibit.focal_length) is not None:
            dials.append(
                Dial(
                    self._gui, "f-number", STOP_HINT, (focal_length / self._widest, SMALLEST_OPENING),
                    lambda lens: min(focal_length / max(lens.aperture_diameter, 1e-9), SMALLEST_OPENING),
                    lambda number: self._set_aperture(focal_length / number), lens,
                )
            )  # fmt: skip
        return dials

    def _add_blades(self) -> Dial:
        """Add the number of blades; returns the dial of their rotation."""
        self._blades = self._gui.add_dropdown("Blades", BLADES, hint=BLADES_HINT)

        @self._blades.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                self._set_blades(among(BLADES, self._blades.value))

        dial = Dial(
            self._gui, "Rotation (°)", "Turns the blades.", (0.0, FULL_TURN),
            lambda lens: lens.blade_rotation, self._set_blade_rotation, self._session.lens,
        )  # fmt: skip
        self._turn = dial.handle
        return dial

    def _add_highlights(self) -> Dial:
        dial = Dial(
            self._gui, "Highlights", HIGHLIGHTS_HINT, (1.0, BRIGHTEST),
            lambda lens: lens.highlights, self._set_highlights, self._session.lens,
        )  # fmt: skip
        self._glow = dial.handle
        return dial

    @property
    def _widest(self) -> float:
        """The largest diameter of the aperture that can be set, scene units."""
        lens = self._exhibit.lens
        return LARGEST_APERTURE * (lens.aperture_diameter or 0.01 * lens.focus_distance)

    def _add_units(self, scene: list[Dial], camera: list[Dial]) -> None:
        units = self._gui.add_dropdown("Units", (CAMERA_UNITS, SCENE_UNITS))
        replaced = scene[-len(camera) :]  # the aperture alone where only the f-number is known

        def show() -> None:
            on_camera = units.value == CAMERA_UNITS
            self._session.metres = self._exhibit.metres if on_camera else None
            for dial in camera:
                dial.handle.visible = on_camera
            for dial in replaced:
                dial.handle.visible = not on_camera
            self.sync()

        @units.on_update
        def _(_: viser.GuiEvent) -> None:
            show()
            self.film.show_unit()

        show()

    def _set_focus(self, distance: float) -> None:
        self._session.turn_lens(focus_distance=distance)

    def _set_aperture(self, diameter: float) -> None:
        self._session.turn_lens(aperture_diameter=diameter)

    def _set_blades(self, choice: str) -> None:
        blades = 0 if choice == ROUND else int(choice)
        self._session.turn_lens(blades=blades)

    def _set_blade_rotation(self, degrees: float) -> None:
        self._session.turn_lens(blade_rotation=degrees)

    def _set_highlights(self, white: float) -> None:
        self._session.turn_lens(highlights=white)

    def _describe_sharp_range(self, lens: Lens) -> str:
        camera = self._exhibit.start
        if lens.aperture_diameter == 0:
            return "Everything is sharp."
        coc = SHARP_ENOUGH * camera.width
        near, far = depth_of_field(lens.focus_distance, lens.aperture_diameter * camera.fx, coc)
        metres = self._session.metres or 1.0
        unit = " scene units" if self._session.metres is None else " m"
        end = f"{unit} to infinity" if math.isinf(far) else f" to {far * metres:.3g}{unit}"
        return f"Sharp from {near * metres:.3g}{end}."

    def _add_photos(self) -> None:
        gui, photos, session = self._gui, self._exhibit.photos, self._session
        names = [photo.name for photo in photos]
        self._photo = gui.add_dropdown("Photo", names, hint="Go to where it was taken, focused as it was.")

        @self._photo.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                session.visit(names.index(among(names, self._photo.value)))

        steps = {BACK: -1, RETURN: 0, FORTH: 1}
        buttons = gui.add_button_group("", tuple(steps))

        @buttons.on_click
        def _(_: viser.GuiEvent) -> None:
            here = names.index(among(names, self._photo.value))
            session.visit((here + steps.get(buttons.value, 0)) % len(names))

        cameras = gui.add_checkbox("Cameras", False, hint="Click one to look through it.")
        cameras.on_update(lambda _: session.show_cameras(cameras.value))
        if any(photo.lens for photo in photos):
            planes = gui.add_checkbox(
                "Focus planes", False, hint="What each photo was focused on: orange near, blue far."
            )
            planes.on_update(lambda _: session.show_planes(planes.value))

    def _add_saving(self) -> None:
        width = self._gui.add_number(
            "Width (px)", PICTURE_WIDTH, min=16, max=LARGEST_PICTURE, step=1,
            hint="Width of what you save. It has the shape of the window, or of the photo that you visit.",
        )  # fmt: skip
        self.picture_width: Callable[[], int] = lambda: int(within(width))
        save = self._gui.add_button("Save picture", icon=viser.Icon.CAMERA, hint="PNG, in final quality.")

        @save.on_click
        def _(_: viser.GuiEvent) -> None:
            save.disabled = True
            try:
                self._session.save_picture(self.picture_width())
            finally:
                save.disabled = False
