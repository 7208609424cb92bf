"""The edit panel: what its tools select and change, without a browser. Chromium: test_viewer_browser.py."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
import viser.transforms
from table_scene import BALL, BALL_PLACE, BOX, TABLE, table_cameras, table_scene, write_table

from cocogs.edit.editor import ADD
from cocogs.edits import edits_path
from cocogs.optics.lens import Lens
from cocogs.viewer.edit_panel import EditPanel
from cocogs.viewer.exhibit import Exhibit, open_exhibit
from cocogs.viewer.gizmo import Pose, box_outline, sphere_outline
from cocogs.viewer.highlight import Highlighter, Marks
from cocogs.viewer.pointer import BOX as BOX_TOOL
from cocogs.viewer.pointer import BRUSH, COLOR, FLOOD, LASSO, LOOK, MOVE, OBJECT, RECTANGLE, SPHERE, Gesture
from cocogs.viewer.server import free_port
from cocogs.viewer.session import Session
from cocogs.viewer.space import ViewerSpace, field_of_view
from cocogs.viewer.workbench import Workbench

OWNER = table_scene()[1]
CAMERA = table_cameras()["photo_3.png"]
SPACE = ViewerSpace(2.0)


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    return write_table(tmp_path)


@pytest.fixture
def visit(ply: Path) -> Iterator[tuple[Session, Workbench, list[str]]]:
    """A visitor without a browser who stands at a photo and edits, and what they were told."""
    server = viser.ViserServer("127.0.0.1", free_port("127.0.0.1", None), verbose=False)
    pose, told = SPACE.pose(CAMERA), []
    camera = SimpleNamespace(
        wxyz=pose.wxyz, position=pose.position, fov=field_of_view(CAMERA, 4 / 3), aspect=4 / 3,
        image_width=CAMERA.width, image_height=CAMERA.height, on_update=lambda callback: callback,
    )  # fmt: skip

    def note(title: str, body: str, **_: Any) -> Any:
        told.append(body)
        return SimpleNamespace(remove=lambda: None)

    client: Any = object.__new__(viser.ClientHandle)
    vars(client).update(scene=server.scene, gui=server.gui, camera=camera, atomic=nullcontext)
    client.add_notification = note
    published: list[Exhibit] = []
    session = Session(client, open_exhibit(ply), SPACE, published.append)
    session.published = published  # type: ignore[attr-defined]
    camera.wxyz, camera.position = pose.wxyz, pose.position
    yield session, session.edit(), told
    session.close()
    server.stop()


def settled(bench: Workbench) -> torch.Tensor:
    """The selection once all that was asked for is done."""
    bench._work.submit(lambda: None).result(60)
    return bench.editor.selected


def at(owner: int) -> tuple[float, float]:
    """Where the window shows the middle of a thing, as parts of its sides."""
    place = table_scene()[0].means.detach()[owner == OWNER].mean(0)
    pixels, _ = CAMERA.project(place)
    return float(pixels[0]) / CAMERA.width, float(pixels[1]) / CAMERA.height


def around(owner: int) -> tuple[tuple[float, float], ...]:
    pixels, _ = CAMERA.project(table_scene()[0].means.detach()[owner == OWNER])
    (left, top), (right, bottom) = (pixels.amin(0) - 2).tolist(), (pixels.amax(0) + 2).tolist()
    corners = (left, top), (right, top), (right, bottom), (left, bottom)
    return tuple((x / CAMERA.width, y / CAMERA.height) for x, y in corners)


def gesture(session: Session, tool: str, *points: tuple[float, float], key: str | None = None) -> Gesture:
    return Gesture(tool, points, key, session.window())


def overlap(mask: torch.Tensor, owner: int) -> float:
    return float((mask & (owner == OWNER)).sum() / (mask | (owner == OWNER)).sum())


def test_a_click_selects_the_thing_and_keys_combine(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, told = visit
    bench._gesture(gesture(session, OBJECT, at(BALL)), True)
    assert overlap(settled(bench), BALL) > 0.85
    bench._gesture(gesture(session, OBJECT, at(BOX), key="shift"), True)
    both = settled(bench)
    assert overlap(both & ~(OWNER == BALL), BOX) > 0.8 and (both & (OWNER == BALL)).any()
    bench._gesture(gesture(session, OBJECT, at(BOX), key="cmd/ctrl"), True)
    assert overlap(settled(bench), BALL) > 0.8
    bench._gesture(gesture(session, OBJECT, (0.5, 0.0)), True)
    settled(bench)
    assert any("nothing at" in line for line in told)
    assert len(told) == 2  # the other one: that the scene is being opened


def test_what_is_drawn_is_selected(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    for tool in (RECTANGLE, LASSO):
        bench._gesture(gesture(session, tool, *around(BALL)), True)
        through = settled(bench).clone()
        assert through[OWNER == BALL].all() and (through & (OWNER == TABLE)).any()
    bench.settings.only_seen = True
    bench._gesture(gesture(session, LASSO, *around(BALL)), True)
    seen = settled(bench)
    assert 0.2 < seen[OWNER == BALL].float().mean() < 0.8 and not (seen & ~through).any()
    bench.settings.only_seen, bench.settings.radius, bench.settings.how = False, 3.0, ADD
    bench.do(bench.editor.select_none)
    for point in (at(BALL), at(BOX)):
        bench._gesture(gesture(session, BRUSH, point), True)
    brushed = settled(bench)
    assert (brushed & (OWNER == BALL)).any() and (brushed & (OWNER == BOX)).any()
    assert brushed.sum() < 0.5 * through.sum()


def test_colours_are_selected(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    bench.settings.tolerance = 0.3
    bench._gesture(gesture(session, COLOR, at(BALL)), True)
    assert overlap(settled(bench), BALL) > 0.95
    bench._gesture(gesture(session, FLOOD, at(BOX)), True)
    flooded = settled(bench)
    assert (flooded & (OWNER == BOX)).any() and not (flooded & (OWNER == BALL)).any()


def test_a_brush_is_shown_while_it_paints(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    bench._gesture(gesture(session, BRUSH, at(BALL)), False)
    marks = session._painter.marks
    assert marks is not None and marks.some.any()
    assert not bench.editor.selected.any()  # it has not ended
    bench.settings.highlight = False
    bench._gesture(gesture(session, BRUSH, at(BALL)), False)
    assert session._painter.marks is None


def test_drags_are_one_line(visit: tuple[Session, Workbench, list[str]]) -> None:
    """viser's events of a drag, and the line that is shown meanwhile."""
    session, bench, _ = visit
    pointer = bench._pointer
    bench.do(lambda: bench.choose(LASSO))
    settled(bench)
    assert bench.takes_clicks and bench.needs_depth and session._request().with_depth
    for side in pointer._canvas:  # the sides of a cube
        normal = viser.transforms.SO3(side.wxyz).as_matrix()[:, 2]
        assert abs(normal @ side.position) == pytest.approx(side.render_width / 2)
    corners, phases = around(BALL), ("start", "update", "update", "end")
    for index, phase in enumerate(phases):
        event: Any = SimpleNamespace(
            phase=phase, start_screen_pos=corners[0], end_screen_pos=corners[index], modifier=None
        )
        asyncio.run(pointer._dragged(event))
        assert pointer._line is not None and pointer._line.visible == (phase != "end")
    assert settled(bench)[OWNER == BALL].all()
    bench.do(lambda: bench.choose(LOOK))
    settled(bench)
    assert not pointer._canvas and not bench.takes_clicks


def test_a_click_focuses_unless_a_tool_takes_it(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    event = viser.SceneClickEvent(session._client, 0, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), at(BALL), None)
    before = session.lens
    for tool, focuses in ((OBJECT, False), (MOVE, True)):
        bench.do(lambda tool=tool: bench.choose(tool))
        settled(bench)
        session._on_click(event)
        assert (session.lens != before) == focuses


def test_the_gizmo_moves_the_selection_live_and_then_for_good(
    visit: tuple[Session, Workbench, list[str]],
) -> None:
    session, bench, _ = visit
    bench.do(lambda: bench.editor.select(OWNER == BALL))
    bench.do(lambda: bench.choose(MOVE))
    settled(bench)
    rest = bench._move.pose
    torch.testing.assert_close(rest.position, torch.tensor(BALL_PLACE).double(), atol=0.02, rtol=0)
    still = session.exhibit.draw(CAMERA, Lens(2.5, 0.05), 0, lambda: None)
    moved = Pose(rest.rotation, rest.position + torch.tensor([0.0, 0.0, 0.6]).double())
    bench._dragged(moved, False)
    live = session.exhibit.draw(CAMERA, Lens(2.5, 0.05), 0, lambda: None)
    assert (live - still).abs().max() > 0.2 and session._painter.marks is None
    assert not bench.editor.state.edits.steps
    bench._dragged(moved, True)
    settled(bench)
    (step,) = bench.editor.state.edits.steps
    np.testing.assert_allclose(step.translation, (0, 0, 0.6), atol=1e-6)  # type: ignore[union-attr]
    done = session.exhibit.draw(CAMERA, Lens(2.5, 0.05), 0, lambda: None)
    torch.testing.assert_close(done, live, atol=2e-3, rtol=0)  # splats are drawn in another order
    assert session._painter.marks is not None
    torch.testing.assert_close(bench._move.pose.position, moved.position, atol=0.01, rtol=0)
    bench._dragged(bench._move.pose, True)  # grabbed and released: no edit
    settled(bench)
    assert len(bench.editor.state.edits.steps) == 1
    bench.do(bench.editor.undo)
    settled(bench)
    undone = session.exhibit.draw(CAMERA, Lens(2.5, 0.05), 0, lambda: None)
    torch.testing.assert_close(undone, still, atol=1e-6, rtol=0)


def test_boxes_and_spheres_select_and_crop(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, told = visit
    bench.do(lambda: bench.editor.select(bench.inside()))
    settled(bench)
    assert told[-1] == "Take the tool Box or Sphere first."
    bench.do(lambda: bench.choose(BOX_TOOL))  # nothing is selected: it stands in the middle of the picture
    settled(bench)
    pixel, depth = session.window().project(bench._box.pose.position)
    assert float(depth) == pytest.approx(session.lens.focus_distance)
    assert pixel.tolist() == pytest.approx([CAMERA.width / 2, CAMERA.height / 2])
    for tool, least in ((BOX_TOOL, 0.85), (SPHERE, 0.7)):
        bench.do(lambda: bench.editor.select(OWNER == BALL))
        bench.do(lambda tool=tool: bench.choose(tool))
        bench.do(lambda: bench.editor.select(bench.inside()))
        assert overlap(settled(bench), BALL) > least, tool
    bench.do(bench.editor.select_none)
    bench.do(lambda: bench.choose(SPHERE))  # it stays where it was
    bench.do(bench.crop)
    settled(bench)
    assert len(bench.editor.subject.gaussians) < 0.3 * len(OWNER)


def test_floaters_and_copies(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    bench.do(bench.select_floaters)
    found = settled(bench)
    assert found.any() and not (found & (OWNER == BOX)).any()
    bench.do(lambda: bench.editor.select(OWNER == BALL))
    bench.do(bench.copy)
    copies = settled(bench)
    means = bench.editor.subject.gaussians.means.detach()
    pixels, _ = session.window().project(torch.stack([means[copies].mean(0), torch.tensor(BALL_PLACE)]))
    assert float(pixels[0, 0] - pixels[1, 0]) > 10 and abs(float(pixels[0, 1] - pixels[1, 1])) < 5


def test_saved_edits_are_shown_to_those_who_come_later(
    visit: tuple[Session, Workbench, list[str]], ply: Path
) -> None:
    session, bench, told = visit
    published: list[Exhibit] = session.published  # type: ignore[attr-defined]
    bench.do(lambda: bench.editor.select(OWNER == BALL))
    bench.do(bench.editor.hide)  # hiding is not an edit
    bench.do(lambda: bench.editor.select(OWNER == BOX))
    bench.do(lambda: bench.editor.move(torch.eye(3).double(), torch.tensor([0.0, -0.3, 0.0]).double()))
    bench.do(bench.save)
    settled(bench)
    assert edits_path(ply).exists() and len(published) == 1 and len(told) == 1
    own = session.exhibit.draw(CAMERA, Lens(2.5, 0.0), 0, lambda: None)
    fresh, anew = (shown.draw(CAMERA, Lens(2.5, 0.0), 0, lambda: None) for shown in
                   (published[0], open_exhibit(ply)))  # fmt: skip
    torch.testing.assert_close(fresh, anew, atol=2e-3, rtol=0)
    assert (own - fresh).abs().max() > 0.2  # the ball is hidden here
    edits_path(ply).unlink()
    bench.do(bench.editor.undo)
    bench.do(bench.save)
    settled(bench)
    assert "changed by somebody else" in told[-1] and len(published) == 1


def test_the_panel_shows_the_state(visit: tuple[Session, Workbench, list[str]]) -> None:
    session, bench, _ = visit
    panel = EditPanel(session._client.gui, bench)
    settled(bench)
    assert f"0 of {len(OWNER):,} splats selected · 0 edits" in panel._status.content
    assert panel._save.disabled
    bench.do(lambda: bench.editor.select(OWNER == BALL))
    bench.do(bench.editor.lock)
    settled(bench)
    assert "900 locked" in panel._status.content
    panel._choose(BOX_TOOL)
    settled(bench)
    assert panel._size.visible and not panel._radius.visible
    assert tuple(panel._size.value) == pytest.approx(bench.settings.size, rel=1e-3)
    bench.do(bench.editor.undo)
    panel._bench.editor.select(OWNER == BALL)
    bench.do(bench.crop)
    settled(bench)
    assert "not saved" in panel._status.content and not panel._save.disabled


def test_the_highlight_lies_where_the_selection_is_seen(ply: Path) -> None:
    gaussians, owner = table_scene()
    lens, highlighter = Lens(2.5, 0.05), Highlighter()
    grey = torch.full((3, CAMERA.height, CAMERA.width), 0.5)
    for thing, other in ((BALL, BOX), (BOX, BALL)):
        marks = Marks(gaussians, lambda thing=thing: owner == thing)
        shown = highlighter.over(grey, marks, CAMERA, lens)
        tinted = (shown - grey).abs().amax(0) > 0.1
        for name, expected in ((thing, True), (other, False)):
            x, y = at(name)
            assert bool(tinted[int(y * CAMERA.height), int(x * CAMERA.width)]) == expected
        assert 0.01 < tinted.float().mean() < 0.2


def test_outlines() -> None:
    edges = box_outline(torch.tensor([1.0, 2.0, 4.0]).double())
    assert edges.shape == (12, 2, 3) and sorted(np.ptp(edges, axis=1).sum(1)) == [1] * 4 + [2] * 4 + [4] * 4
    circles = sphere_outline(2.0)
    np.testing.assert_allclose(np.linalg.norm(circles, axis=2), 2.0)
