"""`cocogs edit`: what it writes, undoes and refuses."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from table_scene import BALL_PLACE, BOX_PLACE, write_table

from cocogs.cli import main
from cocogs.edit.change import Change, edits_for
from cocogs.edit.frame import directions
from cocogs.edit.select import select
from cocogs.edit.subject import open_subject
from cocogs.edits import Move
from cocogs.errors import InputError
from cocogs.io.ply import read_ply

BALL = "color:#cc4033~0.3 and sphere:0.35,-0.22,-0.1,0.3"


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    return write_table(tmp_path)


def ran(*words: object) -> int:
    return main([str(word) for word in words])


def middle(ply: Path, text: str) -> torch.Tensor:
    subject = open_subject(ply)
    return subject.gaussians.means.detach()[select(subject, text).mask].mean(0)


def test_moved_noted_listed_undone(ply: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ply.read_bytes()
    assert ran("edit", ply, "--select", BALL, "--move", "-0.2,0,0.3") == 0
    assert "table.edits.json" in capsys.readouterr().out
    assert torch.allclose(
        middle(ply, "color:#cc4033~0.3"), torch.tensor(BALL_PLACE) + torch.tensor([-0.2, 0, 0.3]), atol=0.01
    )
    assert ran("edit", ply) == 0
    assert "1. move 9" in capsys.readouterr().out
    assert ran("edit", ply, "--undo") == 0
    assert not (ply.parent / "table.edits.json").exists() and ply.read_bytes() == before
    assert ran("edit", ply, "--undo") == 2
    assert "nothing can be undone" in capsys.readouterr().err


def test_directions_are_level_and_seen_from_a_photo(ply: Path) -> None:
    subject = open_subject(ply)
    frame = directions(subject, None, "photo_3.png")
    assert torch.allclose(frame.up, torch.tensor([0.0, -1.0, 0.0]).double(), atol=0.02)
    camera = subject.look("photo_3.png").camera
    assert float(camera.cam_from_world[0, :3] @ frame.right) > 0.99
    assert float(camera.cam_from_world[2, :3] @ frame.away) > 0.8
    assert torch.allclose(directions(subject, "0,-2,0", None).up, torch.tensor([0.0, -1.0, 0.0]).double())
    for up in ("0,0,0", "sideways", "1,2"):
        with pytest.raises(InputError, match="up"):
            directions(subject, up, None)


def test_turned_scaled_and_dropped(ply: Path) -> None:
    subject = open_subject(ply)
    box = select(subject, "box:-0.6,-0.4,0,-0.2,-0.001,0.5")
    change = Change(move="up:0.5", rotate="up:45", scale=2.0, drop=True)
    (step,) = edits_for(subject, box, change)
    after = subject.then(step).gaussians.means.detach()[box.mask]
    assert float(after[:, 1].max()) == pytest.approx(0, abs=0.02)  # it stands on the table
    assert float(after[:, 1].min()) == pytest.approx(-0.635, abs=0.02)
    assert float(after[:, 0].mean()) == pytest.approx(BOX_PLACE[0], abs=0.01)
    assert float(after[:, 0].max() - after[:, 0].min()) == pytest.approx(2 * 0.34 * 2**0.5, abs=0.02)


def test_lifted_out_of_the_table(ply: Path) -> None:
    subject = open_subject(ply)
    ball = select(subject, BALL)
    (step,) = edits_for(subject, ball, Change(move="down:0.1", drop=True))
    assert isinstance(step, Move)
    after = subject.then(step).gaussians.means.detach()[ball.mask]
    assert float(after[:, 1].max()) == pytest.approx(0, abs=0.04)


def test_written_elsewhere_with_its_cameras(ply: Path, tmp_path: Path) -> None:
    out = tmp_path / "other.ply"
    assert ran("edit", ply, "--select", "opacity < 0.5", "--delete", "--out", out) == 0
    assert len(read_ply(out)) == len(read_ply(ply)) - 12
    assert (tmp_path / "other.lens.json").is_file() and not (tmp_path / "table.edits.json").exists()


def test_copied_in_another_color(ply: Path, tmp_path: Path) -> None:
    out = tmp_path / "other.ply"
    options = ("--duplicate", "--move", "0,-0.5,0", "--recolor", "#2040c0")
    assert ran("edit", ply, "--select", BALL, *options, "--out", out) == 0
    more = read_ply(out)
    count = len(read_ply(ply))
    colors = more.sh0.detach()[count:, 0] * 0.28209479 + 0.5
    assert torch.allclose(colors.mean(0), torch.tensor([0x20, 0x40, 0xC0]) / 255, atol=0.02)
    assert torch.equal(more.sh0[:count], read_ply(ply).sh0)


def test_preview_and_what_was_never_seen(
    ply: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "look"
    command = ("edit", ply, "--select", "height > 0.03 and not opacity < 0.5", "--preview", folder)
    assert ran(*command) == 0
    plain = json.loads((folder / "preview.json").read_text())
    assert len(plain["files"]) == 8 and not (ply.parent / "table.edits.json").exists()
    assert ran(*command, "--delete", "--out", tmp_path / "bare.ply") == 0
    facts = json.loads((folder / "preview.json").read_text())
    assert len(facts["files"]) == 24 and facts["share_of_picture"]["photo_3.png"]["unseen"] > 0
    with Image.open(folder / "photo_3_selected.png") as picture:
        assert picture.size == (240, 180)
    assert "never seen by a photo" in capsys.readouterr().out
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.png").write_bytes(b"mine")
    assert ran("edit", ply, "--select", "all", "--preview", tmp_path / "photos") == 2


def test_what_all_photos_see_behind_a_thing_is_seen(ply: Path, tmp_path: Path) -> None:
    """The table behind the ball is seen by photos from the side: only where it touched the table none saw."""
    from cocogs.edit.uncovered import uncovered

    subject = open_subject(ply)
    ball = select(subject, BALL)
    (step,) = edits_for(subject, ball, Change(move="up:0.6"))
    bared = uncovered(subject, subject.then(step), ball.mask)
    assert bared is not None
    camera = subject.look("photo_3.png").camera
    shown, unseen = bared.bared(camera), bared.unseen(camera)
    assert shown.sum() > 300 and 0 < unseen.sum() < 0.5 * shown.sum() and not (unseen & ~shown).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--move", "1,2,3"), "Nothing is selected"),
        (("--select", "all"), "Say what becomes of the selection"),
        (("--select", "all", "--delete"), "leave no splat"),
        (("--select", "all", "--delete", "--move", "1,0,0"), "nothing else can become of it"),
        (("--select", "all", "--move", "1,2"), "takes 3 numbers"),
        (("--select", "all", "--move", "sideways:2"), "is none of left"),
        (("--select", "all", "--move", "left:20cm"), "in metres is not known"),
        (("--select", "all", "--move", "left:nan"), "takes lengths"),
        (("--select", "all", "--rotate", "30"), "takes axis:degrees"),
        (("--select", "all", "--rotate", "0,0,0:30"), "takes axis:degrees"),
        (("--select", "all", "--scale", "0"), "--scale must be"),
        (("--select", "all", "--scale", "nan"), "--scale must be"),
        (("--select", "all", "--recolor", "red"), "takes factors of red"),
        (("--select", "all", "--recolor", "1,2,nan"), "--recolor must be"),
        (("--select", "all", "--opacity", "-1"), "--opacity must be"),
        (("--select", "all", "--drop", "--up", "0,1,0"), "Nothing lies under"),
        (("--select", "all", "--delete", "--metres", "0"), "--metres must be"),
        (("--select", "x > 0", "--delete", "--out", "scene.obj"), "does not end in"),
        (("--undo", "--select", "all"), "drops the last edit"),
        (("--select", "x > 0", "--save-selection", "cup.json"), "must end in .selection.json"),
    ],
)
def test_misuse(
    ply: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("edit", ply, *options) == 2
    assert message in capsys.readouterr().err
    assert not (ply.parent / "table.edits.json").exists()


def test_other_targets(tmp_path: Path, ply: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target, message in ((tmp_path, "is not a run"), (tmp_path / "no.ply", "does not exist")):
        assert ran("edit", target, "--select", "all", "--delete") == 2
        assert message in capsys.readouterr().err
    assert ran("edit", ply, "--select", "x > 0", "--delete", "--out", ply) == 2
    assert "itself is never changed" in capsys.readouterr().err


def test_a_selection_is_kept_and_taken_again(ply: Path, tmp_path: Path) -> None:
    kept = tmp_path / "ball.selection.json"
    assert ran("edit", ply, "--select", BALL, "--save-selection", kept) == 0
    assert ran("edit", ply, "--select", f"file:{kept}", "--move", "0,0,1") == 0
    assert ran("edit", ply, "--select", f"file:{kept}", "--move", "0,0,1") == 2  # another scene by now
