"""The controls of editing: tools, the selection, what becomes of it, undo and save."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import viser

from cocogs.edit.change import Change
from cocogs.edit.editor import ADD, INTERSECT, REMOVE, SET
from cocogs.errors import InputError, counted
from cocogs.lengths import parse_length
from cocogs.viewer.dial import among, within
from cocogs.viewer.pointer import BOX, BRUSH, COLOR, FLOOD, LASSO, LOOK, MOVE, OBJECT, RECTANGLE, SPHERE
from cocogs.viewer.workbench import Workbench

if TYPE_CHECKING:
    from cocogs.viewer.session import Session

TOOLS = {
    LOOK: ("V", "Drag turns the view, a click focuses."),
    OBJECT: ("O", "A click selects the object that is seen there."),
    COLOR: ("P", "A click selects all splats of that colour."),
    FLOOD: ("F", "A click selects what hangs together there in one colour."),
    RECTANGLE: ("R", "Drag a rectangle. Alt turns the view."),
    LASSO: ("L", "Draw around something. Alt turns the view."),
    BRUSH: ("B", "Paint over something. Alt turns the view."),
    BOX: ("X", "Move and turn the box, then select or crop."),
    SPHERE: ("T", "Move the sphere, then select or crop."),
    MOVE: ("G", "Drag the arrows and arcs at the selection. The blur follows."),
}
HOWS = {"New selection": SET, "Add": ADD, "Remove": REMOVE, "Intersect": INTERSECT}
HOW_HINT = "What a gesture does. Shift adds, Ctrl removes, both together intersect."
SEEN_HINT = "Rectangle, lasso, brush and flood leave out what is hidden behind other things."
NO_CAMERAS = (
    "The photos' cameras are not known, so floaters cannot be found, and a click does not tell floors and "
    "walls from things: put SCENE.lens.json beside the .ply."
)
ALL, NONE, INVERT = "All", "None", "Invert"
GROW, SHRINK = "Grow", "Shrink"
COPY, DROP, DELETE = "Copy", "Drop", "Delete"
LOCK, HIDE, FREE = "Lock", "Hide", "Free all"
UNDO, REDO = "Undo", "Redo"
LARGEST_BRUSH, WIDEST_TOLERANCE = 200.0, 0.5  # px, sRGB


def add_edit_panel(gui: viser.GuiApi, session: "Session") -> None:
    """A folder with a button that opens the scene for editing, and then holds the controls."""
    folder = gui.add_folder("Edit", expand_by_default=False)
    with folder:
        start = gui.add_button(
            "Edit this scene", icon=viser.Icon.PENCIL, hint="Select, move, copy and delete things."
        )

    @start.on_click
    def _(_: viser.GuiEvent) -> None:
        start.disabled = True
        try:
            bench = session.edit()
        except InputError as error:
            session.notify("Not opened", str(error))
            start.disabled = False
            return
        start.remove()
        with folder:
            EditPanel(gui, bench)


class EditPanel:
    """The controls of one visitor's workbench."""

    def __init__(self, gui: viser.GuiApi, bench: Workbench) -> None:
        self._gui, self._bench = gui, bench
        self._shown_for: list[tuple[viser.GuiInputHandle | viser.GuiButtonHandle, tuple[str, ...]]] = []
        self._status = gui.add_markdown("")
        if not bench.editor.subject.looks:
            gui.add_markdown(NO_CAMERAS)
        self._add_tools()
        self._add_settings()
        self._add_selecting()
        self._add_changing()
        with gui.add_folder("By numbers", expand_by_default=False):
            self._add_numbers()
        self._add_saving()
        self._add_commands()
        bench.changed = self.sync
        self._choose(LOOK)

    def sync(self) -> None:
        """Show the state of the editor."""
        editor, state = self._bench.editor, self._bench.editor.state
        parts = [f"{int(state.selected.sum()):,} of {len(state.selected):,} splats selected"]
        for count, word in ((int(state.locked.sum()), "locked"), (int(state.hidden.sum()), "hidden")):
            parts += [f"{count:,} {word}"] if count else []
        parts.append(counted(len(state.edits.steps), "edit") + ("" if editor.is_saved else ", not saved"))
        self._status.content = " · ".join(parts)
        self._save.disabled = editor.is_saved
        x, y, z, radius = (
            float(f"{length:.4g}") for length in (*self._bench.settings.size, self._bench.settings.sphere)
        )
        self._size.value, self._radius.value = (x, y, z), radius

    def _do(self, action: Callable[[], None]) -> None:
        self._bench.do(action)

    def _group(self, label: str, actions: dict[str, Callable[[], None]], hint: str) -> None:
        """Buttons side by side."""
        names = tuple(actions)
        buttons = self._gui.add_button_group(label, names, hint=hint)
        buttons.on_click(lambda _: self._do(actions[among(names, buttons.value)]))

    def _add_tools(self) -> None:
        names = tuple(f"{tool} ({key})" for tool, (key, _) in TOOLS.items())
        self._tool = self._gui.add_dropdown("Tool", names)
        self._hint = self._gui.add_markdown("")

        @self._tool.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                self._choose(list(TOOLS)[names.index(among(names, self._tool.value))])

        for tool in TOOLS:
            self._command(f"Tool: {tool}", TOOLS[tool][0], None, partial(self._choose, tool))
        self._command("Tool: none", "escape", None, partial(self._choose, LOOK))

    def _choose(self, tool: str) -> None:
        key, hint = TOOLS[tool]
        self._tool.value, self._hint.content = f"{tool} ({key})", hint
        for control, tools in self._shown_for:
            control.visible = tool in tools
        self._do(partial(self._bench.choose, tool))

    def _add_settings(self) -> None:
        gui, settings = self._gui, self._bench.settings
        how = gui.add_dropdown("Gesture", tuple(HOWS), hint=HOW_HINT)
        seen = gui.add_checkbox("Seen only", settings.only_seen, hint=SEEN_HINT)
        brush = gui.add_slider("Brush (px)", 1.0, LARGEST_BRUSH, 1.0, settings.radius)
        tolerance = gui.add_slider(
            "Tolerance", 0.01, WIDEST_TOLERANCE, 0.01, settings.tolerance, hint="Difference of colours."
        )
        hint = "Width, depth and height in scene units."
        self._size = gui.add_vector3("Size", settings.size, min=(0.0, 0.0, 0.0), step=0.001, hint=hint)
        self._radius = gui.add_number("Radius", settings.sphere, min=0.0, step=0.001, hint="In scene units.")
        inside = gui.add_button("Select what is inside")
        drawn = (RECTANGLE, LASSO, BRUSH, FLOOD)
        self._shown_for = [
            (how, (OBJECT, COLOR, *drawn, BOX, SPHERE)), (seen, drawn), (brush, (BRUSH,)),
            (tolerance, (COLOR, FLOOD)), (self._size, (BOX,)), (self._radius, (SPHERE,)),
            (inside, (BOX, SPHERE)),
        ]  # fmt: skip

        @how.on_update
        def _(_: viser.GuiEvent) -> None:
            settings.how = HOWS[among(tuple(HOWS), how.value)]

        @seen.on_update
        def _(_: viser.GuiEvent) -> None:
            settings.only_seen = bool(seen.value)

        @brush.on_update
        def _(_: viser.GuiEvent) -> None:
            settings.radius = within(brush)

        @tolerance.on_update
        def _(_: viser.GuiEvent) -> None:
            settings.tolerance = within(tolerance)

        @self._size.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                x, y, z = (max(float(side), 0.0) for side in self._size.value)
                settings.size = x, y, z
                self._bench.outline()

        @self._radius.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                settings.sphere = within(self._radius)
                self._bench.outline()

        bench = self._bench
        inside.on_click(lambda _: self._do(lambda: bench.editor.select(bench.inside(), settings.how)))

    def _add_selecting(self) -> None:
        bench, editor = self._bench, self._bench.editor
        self._group(
            "Select",
            {ALL: editor.select_all, NONE: editor.select_none, INVERT: editor.invert},
            "Keys Shift+N, N and I.",
        )
        distance = self._gui.add_text(
            "Distance", "0.05", hint="For Grow and Shrink: 0.05 (scene units), or 5cm where metres are known."
        )

        def length() -> float:
            return parse_length("distance", distance.value, editor.subject.metres, editor.subject.target)

        grow, shrink = (lambda: editor.grow(length())), (lambda: editor.shrink(length()))
        self._group("", {GROW: grow, SHRINK: shrink}, "The selection, by the distance.")
        self._group(
            "Clean up",
            {"Floaters": bench.select_floaters, "Crop": bench.crop},
            "Select what floats before things. Crop deletes all but what is in the box or sphere, or, "
            "with another tool, all but the selection.",
        )
        highlight = self._gui.add_checkbox("Highlight", bench.settings.highlight, hint="Tint the selection.")

        @highlight.on_update
        def _(_: viser.GuiEvent) -> None:
            bench.settings.highlight = bool(highlight.value)
            self._do(lambda: None)

    def _add_changing(self) -> None:
        editor = self._bench.editor
        change = editor.change

        def free() -> None:
            editor.unlock()
            editor.unhide()

        self._group(
            "Selection",
            {
                COPY: self._bench.copy,
                DROP: lambda: change(Change(drop=True)),
                DELETE: lambda: change(Change(delete=True)),
            },
            "A copy is put to the right, and is selected. Drop lets things fall onto what lies under them.",
        )
        self._group(
            "",
            {LOCK: editor.lock, HIDE: editor.hide, FREE: free},
            "Locked and hidden splats are not selected or edited.",
        )

    def _add_numbers(self) -> None:
        """The words of `cocogs edit`."""
        gui = self._gui
        move = gui.add_text("Move", "", hint="0.1,0,-0.2 or left:20cm,up:0.1")
        turn = gui.add_text("Turn", "", hint="up:30 or 0,1,0:30, in degrees")
        scale = gui.add_number("Scale", 1.0, min=0.001, max=1000.0, step=0.001)
        color = gui.add_text("Colour", "", hint="#c04020, or factors of red, green and blue: 1.2,1,0.8")
        opacity = gui.add_number("Opacity", 1.0, min=0.0, max=100.0, step=0.01, hint="Factor.")
        apply = gui.add_button("Apply", hint="Make these changes of the selection.")

        @apply.on_click
        def _(_: viser.GuiEvent) -> None:
            change = Change(
                move=move.value or None, rotate=turn.value or None, scale=within(scale),
                recolor=color.value or None, opacity=within(opacity),
            )  # fmt: skip
            if not change.is_none:
                self._do(partial(self._bench.editor.change, change))

    def _add_saving(self) -> None:
        editor = self._bench.editor
        self._group("", {UNDO: editor.undo, REDO: editor.redo}, "Keys Ctrl+Z and Ctrl+Shift+Z.")
        self._save = self._gui.add_button(
            "Save edits", icon=viser.Icon.DEVICE_FLOPPY, hint="Beside the scene, which itself stays as it is."
        )
        self._save.on_click(lambda _: self._do(self._bench.save))

    def _add_commands(self) -> None:
        editor, change = self._bench.editor, self._bench.editor.change
        # W, A, S, D, Q and E walk, with Ctrl and Shift too.
        commands: Sequence[tuple[str, str | None, str | None, Callable[[], None]]] = (
            ("Select all", "N", "shift", editor.select_all),
            ("Select none", "N", None, editor.select_none),
            ("Invert the selection", "I", None, editor.invert),
            ("Delete the selection", "delete", None, lambda: change(Change(delete=True))),
            ("Copy the selection", "C", None, self._bench.copy),
            ("Hide the selection", "H", None, editor.hide),
            ("Show everything", "U", None, editor.unhide),
            ("Lock the selection", "K", None, editor.lock),
            ("Unlock everything", "K", "shift", editor.unlock),
            ("Undo", "Z", "cmd/ctrl", editor.undo),
            ("Redo", "Z", "cmd/ctrl+shift", editor.redo),
            ("Save edits", None, None, self._bench.save),
        )
        for label, key, modifier, action in commands:
            self._command(label, key, modifier, partial(self._do, action))

    def _command(self, label: str, key: str | None, modifier: str | None, action: Callable[[], None]) -> None:
        command = self._gui.add_command(label, hotkey=key, modifier=modifier)  # type: ignore[arg-type]
        command.on_trigger(lambda _: action())
