"""The editor behind the page: selecting, locking, hiding, undo, redo, save; and regions of pictures."""

import math
from pathlib import Path

import pytest
import torch
from table_scene import BALL, BALL_PLACE, BOX, FLOATER, TABLE, table_cameras, table_scene, write_table

from cocogs.cli import main
from cocogs.edit.change import Change
from cocogs.edit.editor import ADD, INTERSECT, REMOVE, SET, Editor
from cocogs.edit.region import box_around, flood, in_region, in_turned_box, polygon, seen, stroke
from cocogs.edit.subject import changing_edits, open_subject
from cocogs.edits import edits_path, open_edits
from cocogs.errors import InputError

OWNER = table_scene()[1]
STILL = torch.eye(3, dtype=torch.float64)
CAMERA = table_cameras()["photo_3.png"]


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    return write_table(tmp_path)


@pytest.fixture
def editor(ply: Path) -> Editor:
    return Editor(open_subject(ply, say=lambda line: None))


def of(owner: int) -> torch.Tensor:
    return OWNER == owner


def middle(editor: Editor, mask: torch.Tensor) -> torch.Tensor:
    return editor.subject.gaussians.means.detach()[mask].double().mean(0)


def test_selections_are_combined(editor: Editor) -> None:
    both = of(BALL) | of(BOX)
    for how, mask, expected in (
        (SET, of(BALL), of(BALL)), (ADD, of(BOX), both), (REMOVE, of(BALL), of(BOX)), (SET, both, both),
        (INTERSECT, of(BALL) | of(TABLE), of(BALL)),
    ):  # fmt: skip
        editor.select(mask, how)
        assert torch.equal(editor.selected, expected)
    editor.invert()
    assert torch.equal(editor.selected, ~of(BALL))
    editor.select_all()
    assert editor.selected.all()
    editor.select_none()
    assert not editor.selected.any()


def test_grown_and_shrunk(editor: Editor) -> None:
    editor.select(of(BALL))
    editor.grow(0.05)
    grown = editor.selected
    assert (grown & of(TABLE)).any() and grown.sum() < 1.1 * of(BALL).sum()
    editor.shrink(0.05)
    assert editor.selected.sum() < grown.sum() and not (editor.selected & ~grown).any()
    with pytest.raises(InputError, match="length above 0"):
        editor.grow(0.0)


def test_what_is_locked_or_hidden_is_not_selected(editor: Editor) -> None:
    editor.select(of(BALL))
    editor.lock()
    editor.select(of(BOX))
    editor.hide()
    editor.select_all()
    assert torch.equal(editor.selected, of(TABLE) | of(FLOATER))
    editor.select_none()
    editor.invert()
    assert torch.equal(editor.selected, of(TABLE) | of(FLOATER))
    shown = editor.shown
    assert len(shown.gaussians) == int((~of(BOX)).sum())
    assert torch.equal(shown.in_scene(shown.of(of(BALL))), of(BALL))
    assert not shown.of(of(BOX)).any()
    editor.unlock()
    editor.unhide()
    assert len(editor.shown.gaussians) == len(OWNER) and editor.state.free.all()


def test_nothing_is_selected(editor: Editor) -> None:
    for action in (editor.lock, editor.hide, lambda: editor.change(Change(delete=True))):
        with pytest.raises(InputError, match="Nothing is selected"):
            action()
    assert not editor.state.edits.steps


def test_moved_undone_and_redone(editor: Editor) -> None:
    before = editor.subject.gaussians.means.detach().clone()
    editor.select(of(BALL))
    editor.move(STILL, torch.tensor([0.1, 0.0, 0.2]).double())
    expected = torch.tensor(BALL_PLACE).double() + torch.tensor([0.1, 0.0, 0.2]).double()
    torch.testing.assert_close(middle(editor, of(BALL)), expected, atol=1e-3, rtol=0)
    shown = editor.shown
    moved = shown.moved(shown.of(of(BALL)), STILL, torch.tensor([0.0, 1.0, 0.0]).double())
    there = moved.means.detach()[shown.of(of(BALL))].double().mean(0)
    torch.testing.assert_close(there - expected, torch.tensor([0.0, 1.0, 0.0]).double(), atol=1e-3, rtol=0)
    assert len(editor.state.edits.steps) == 1  # what is only shown is not noted
    editor.undo()
    assert torch.equal(editor.subject.gaussians.means, before) and torch.equal(editor.selected, of(BALL))
    editor.undo()
    assert not editor.selected.any()
    with pytest.raises(InputError, match="nothing to undo"):
        editor.undo()
    editor.redo()
    editor.redo()
    torch.testing.assert_close(middle(editor, of(BALL)), expected, atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="nothing to redo"):
        editor.redo()
    editor.undo()
    editor.select(of(BOX))  # another way is taken: what was undone is gone
    with pytest.raises(InputError, match="nothing to redo"):
        editor.redo()


def test_copied_and_deleted(editor: Editor) -> None:
    """Masks follow the number of splats, forwards and backwards."""
    editor.select(of(BOX))
    editor.lock()
    editor.select(of(BALL))
    editor.move(STILL, torch.tensor([0.0, 0.0, 0.9]).double(), copy=True)
    count = len(OWNER)
    assert len(editor.subject.gaussians) == count + int(of(BALL).sum())
    assert torch.equal(editor.selected.nonzero()[:, 0], torch.arange(count, len(editor.selected)))
    assert torch.equal(editor.state.locked[:count], of(BOX)) and not editor.state.locked[count:].any()
    editor.select(torch.cat([of(BALL), torch.zeros(int(of(BALL).sum()), dtype=torch.bool)]))
    editor.change(Change(delete=True))
    assert len(editor.subject.gaussians) == count and not editor.selected.any()
    assert int(editor.state.locked.sum()) == int(of(BOX).sum())
    for _ in range(5):
        editor.undo()
    assert len(editor.subject.gaussians) == count and not editor.state.locked.any()
    for _ in range(5):
        editor.redo()
    assert len(editor.state.edits.steps) == 2 and len(editor.subject.gaussians) == count


def test_cropped(editor: Editor) -> None:
    editor.select(of(BOX))
    editor.lock()
    editor.crop(of(BALL))
    assert len(editor.subject.gaussians) == int((of(BALL) | of(BOX)).sum())
    for keep in (torch.zeros_like(editor.selected), torch.ones_like(editor.selected)):
        with pytest.raises(InputError, match=r"no splat to keep|nothing else"):
            editor.crop(keep)


def test_a_scene_is_never_emptied(editor: Editor) -> None:
    editor.select_all()
    with pytest.raises(InputError, match="leave no splat"):
        editor.change(Change(delete=True))
    assert editor.selected.all() and not editor.state.edits.steps


def test_saved_as_the_command_writes_it(editor: Editor, ply: Path) -> None:
    editor.select(of(BALL))
    editor.move(STILL, torch.tensor([0.1, 0.0, 0.2]).double())
    assert not editor.is_saved
    editor.save()
    assert editor.is_saved
    again = open_subject(ply, say=lambda line: None)
    assert torch.equal(again.gaussians.means, editor.subject.gaussians.means)
    assert main(["edit", str(ply), "--undo"]) == 0
    assert not edits_path(ply).exists()


def test_edits_of_the_file_are_undone_too(editor: Editor, ply: Path) -> None:
    editor.select(of(BALL))
    editor.change(Change(delete=True))
    editor.save()
    later = Editor(open_subject(ply, say=lambda line: None))
    later.undo()
    assert len(later.subject.gaussians) == len(OWNER) == len(later.selected) and not later.is_saved
    later.redo()
    assert len(later.subject.gaussians) == int((~of(BALL)).sum()) and later.is_saved
    later.undo()
    later.save()
    assert not edits_path(ply).exists()


def test_the_file_of_somebody_else_is_kept(editor: Editor, ply: Path) -> None:
    other = Editor(open_subject(ply, say=lambda line: None))
    for one, owner in ((editor, BALL), (other, BOX)):
        one.select(of(owner))
        one.change(Change(delete=True))
    other.save()
    with pytest.raises(InputError, match=r"table\.edits\.json was changed by somebody else"):
        editor.save()
    assert not editor.is_saved
    (step,) = open_edits(ply, editor.subject.original).steps
    assert torch.equal(step.chosen.mask, of(BOX))  # type: ignore[union-attr]
    with (
        changing_edits(ply),
        pytest.raises(InputError, match="Another cocogs is at work"),
    ):
        other.save()


# Regions.


def test_drawn_lines_hold_the_splats_behind_them(editor: Editor) -> None:
    gaussians = editor.subject.gaussians
    pixels, _ = CAMERA.project(gaussians.means.detach()[of(BALL)])
    (left, top), (right, bottom) = (pixels.amin(0) - 1).tolist(), (pixels.amax(0) + 1).tolist()
    corners = [(x / CAMERA.width, y / CAMERA.height) for x, y in
               ((left, top), (right, top), (right, bottom), (left, bottom))]  # fmt: skip
    mask = in_region(gaussians, CAMERA, polygon(CAMERA, corners))
    assert mask[of(BALL)].all() and (mask & of(TABLE)).any() and not (mask & of(BOX)).any()
    visible = mask & seen(gaussians, CAMERA)
    front = gaussians.means.detach()[of(BALL)][:, 2] < BALL_PLACE[2] - 0.1
    assert visible[of(BALL)][front].float().mean() > 0.95
    assert visible[of(BALL)][~front].float().mean() < 0.5
    assert not in_region(gaussians, CAMERA, polygon(CAMERA, corners[:2])).any()


def test_a_brush_touches_what_is_as_near_as_its_radius() -> None:
    region = stroke(CAMERA, [(0.25, 0.5), (0.75, 0.5)], 6.0)
    rows, columns = region.nonzero(as_tuple=True)
    middle, radius = CAMERA.height / 2, 6
    assert abs(int(rows.min()) - (middle - radius)) <= 1 and abs(int(rows.max()) - (middle + radius)) <= 1
    assert abs(int(columns.min()) - (0.25 * CAMERA.width - radius)) <= 1
    dab = stroke(CAMERA, [(0.5, 0.5)], 6.0)
    assert float(dab.sum()) == pytest.approx(math.pi * 36, rel=0.15)


def test_a_flood_stays_within_its_colour() -> None:
    picture = torch.zeros(3, 10, 20)
    picture[0, 2:6, 3:9] = 0.8
    picture[0, 2:6, 12:15] = 0.8  # as red, but apart
    region = flood(picture, 4.5, 3.5, 0.1)
    assert region[2:6, 3:9].all() and int(region.sum()) == 24
    assert int(flood(picture, 0.5, 0.5, 0.1).sum()) == 200 - 36


def test_a_turned_box(editor: Editor) -> None:
    gaussians = editor.subject.gaussians
    turn = torch.deg2rad(torch.tensor(30.0)).double()
    rotation = torch.tensor([[turn.cos(), 0, turn.sin()], [0, 1, 0], [-turn.sin(), 0, turn.cos()]]).double()
    middle, size = box_around(gaussians, of(BALL), rotation)
    torch.testing.assert_close(middle, torch.tensor(BALL_PLACE).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(size, torch.full((3,), 0.48).double(), atol=0.04, rtol=0)
    mask = in_turned_box(gaussians, middle, rotation, size)
    assert mask[of(BALL)].all() and not mask[of(BOX)].any()
    flat = in_turned_box(gaussians, middle, rotation, torch.tensor([5.0, 0.01, 5.0]).double())
    assert flat.any() and not flat[of(TABLE)].any()
