"""Edits as data: what they do to splats, and that they survive as files."""

import json
from pathlib import Path

import pytest
import torch
from table_scene import BALL, table_cameras, table_scene, write_table
from tiny_run import tiny_run

from cocogs.edits import (
    Add,
    Chosen,
    Delete,
    Edits,
    Move,
    Recolor,
    apply_edits,
    edits_path,
    file_hash,
    open_edits,
    read_selection,
    scene_fingerprint,
    write_edits,
    write_selection,
)  # fmt: skip
from cocogs.errors import InputError
from cocogs.export import ExportOptions, export
from cocogs.gaussians import Gaussians
from cocogs.io.ply import read_ply, write_ply
from cocogs.optics.lens import Lens
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import refocus
from cocogs.run import load_run

TURN = ((0.36, 0.48, -0.8), (-0.8, 0.6, 0.0), (0.48, 0.64, 0.6))


@pytest.fixture
def scene() -> Gaussians:
    return table_scene()[0]


@pytest.fixture
def ball() -> Chosen:
    return Chosen(table_scene()[1] == BALL, "the ball")


def applied(scene: Gaussians, *steps) -> Gaussians:
    return apply_edits(scene, steps, "a test").gaussians


def test_moved_and_back(scene: Gaussians, ball: Chosen) -> None:
    there = Move(ball, TURN, (0.3, -0.2, 0.7), 1.5)
    rotation = torch.tensor(TURN).double()
    back = -(rotation.T @ torch.tensor([0.3, -0.2, 0.7]).double()) / 1.5
    home = Move(ball, tuple(map(tuple, rotation.T.tolist())), tuple(back.tolist()), 1 / 1.5)
    again = applied(scene, there, home)
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        assert (getattr(again, name) - getattr(scene, name)).abs().max() < 1e-5, name
    assert not torch.allclose(applied(scene, there).means[ball.mask], scene.means[ball.mask], atol=0.1)
    assert torch.equal(applied(scene, there).means[~ball.mask], scene.means[~ball.mask])


def test_moving_everything_moves_the_camera_the_other_way(scene: Gaussians) -> None:
    """Colours turn along: the moved scene looks the same to a camera that is moved along."""
    everything = Chosen(torch.ones(len(scene), dtype=torch.bool))
    camera = table_cameras()["photo_3.png"]
    moved = applied(scene, Move(everything, TURN, (0.3, -0.2, 0.7)))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = torch.tensor(TURN).double(), torch.tensor([0.3, -0.2, 0.7]).double()
    from dataclasses import replace

    along = replace(camera, cam_from_world=camera.cam_from_world @ torch.linalg.inv(pose))
    lens = Lens(2.4, 0.1)
    assert (refocus(moved, along, lens) - refocus(scene, camera, lens)).abs().max() < 1e-3


def test_a_copy_leaves_the_original(scene: Gaussians, ball: Chosen) -> None:
    copied = applied(scene, Move(ball, translation=(0.0, 0.0, 0.5), copy=True))
    assert len(copied) == len(scene) + len(ball)
    assert torch.equal(copied.means[: len(scene)], scene.means)
    offset = torch.tensor([0.0, 0.0, 0.5])
    assert torch.allclose(copied.means[len(scene) :], scene.means[ball.mask] + offset, atol=1e-6)


def test_deleted(scene: Gaussians, ball: Chosen) -> None:
    assert torch.equal(applied(scene, Delete(ball)).means, scene.means[~ball.mask])
    with pytest.raises(InputError, match="leaves no splat"):
        applied(scene, Delete(Chosen(torch.ones(len(scene), dtype=torch.bool))))


def test_recolored(scene: Gaussians, ball: Chosen) -> None:
    seen = (scene.sh0 * SH_C0 + 0.5)[ball.mask]
    recolored = applied(scene, Recolor(ball, (0.5, 1.0, 2.0), 0.5))
    assert torch.allclose(
        (recolored.sh0 * SH_C0 + 0.5)[ball.mask], seen * torch.tensor([0.5, 1.0, 2.0]), atol=1e-6
    )
    halved = recolored.opacities[ball.mask].sigmoid() / scene.opacities[ball.mask].sigmoid()
    assert torch.allclose(halved, torch.full_like(halved, 0.5), atol=1e-5)
    assert applied(scene, Recolor(ball, opacity=50.0)).opacities.isfinite().all()


def test_added_splats_are_marked(scene: Gaussians, tmp_path: Path) -> None:
    write_ply(tmp_path / "more.ply", scene[:7])
    replaced = Chosen(torch.arange(len(scene)) == 9)
    step = Add(replaced, tmp_path / "more.ply", file_hash(tmp_path / "more.ply"), invented=True)
    result = apply_edits(scene, [step, Delete(Chosen(torch.arange(len(scene) + 6) < 5))], "a test")
    assert (
        result.invented.sum() == 7 and result.invented[-7:].all() and len(result.gaussians) == len(scene) + 1
    )
    write_ply(tmp_path / "more.ply", scene[:8])
    with pytest.raises(InputError, match=r"more\.ply is not the file that was added"):
        applied(scene, step)


def test_files_read_back(scene: Gaussians, ball: Chosen, tmp_path: Path) -> None:
    ply = write_table(tmp_path)
    write_ply(tmp_path / "more.ply", scene[:7])
    steps = (
        Move(ball, TURN, (0.1, 0.2, 0.3), 1.25, True),
        Recolor(Chosen(torch.arange(len(scene) + len(ball)) < 3), (0.5, 1.0, 2.0), 0.25),
        Delete(Chosen(torch.arange(len(scene) + len(ball)) < 5, "five")),
        Add(
            Chosen(torch.zeros(len(scene) + len(ball) - 5, dtype=torch.bool)),
            tmp_path / "more.ply",
            file_hash(tmp_path / "more.ply"),
            True,
            True,
        ),
    )
    edits = Edits(scene_fingerprint(read_ply(ply)), steps)
    write_edits(ply, edits)
    again = open_edits(ply, read_ply(ply))
    assert again.fingerprint == edits.fingerprint and len(again.steps) == 4
    for name in ("means", "shN", "opacities"):
        one, other = (getattr(applied(scene, *kind.steps), name) for kind in (edits, again))
        assert torch.equal(one, other), name
    write_edits(ply, Edits(edits.scene))
    assert not edits_path(ply).exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "no JSON"),
        (lambda text: text.replace("cocogs-edits/1", "other/9"), "schema"),
        (lambda text: text.replace('"move"', '"explode"'), "no kind of edit"),
        (lambda text: text.replace('"mask": "', '"mask": "!!'), "cannot be read"),
        (lambda text: text.replace('"of": ', '"of": 99'), "another size"),
        (lambda text: text.replace('"rotation": [', '"rotation": [[1, 0, 0],'), "three rows"),
        (
            lambda text: text.replace('"chosen"', '"x"').replace('"scale": 1.0', '"scale": "wide"'),
            "cannot be read",
        ),
        (lambda text: text.replace('"scale": 1.0', '"scale": -1.0'), "scale cannot be -1"),
        (lambda text: text.replace('"scene": "', '"scene": "0'), "another state of the scene"),
    ],
)
def test_damaged_files_are_named(
    scene: Gaussians, ball: Chosen, tmp_path: Path, damage, message: str
) -> None:
    ply = write_table(tmp_path)
    write_edits(ply, Edits(scene_fingerprint(read_ply(ply)), (Move(ball),)))
    path = edits_path(ply)
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message):
        apply_edits(scene, open_edits(ply, read_ply(ply)).steps, path)


def test_edits_for_another_number_of_splats(scene: Gaussians, ball: Chosen) -> None:
    with pytest.raises(InputError, match=r"Edit 1 of a test is for another number of splats"):
        applied(scene[:100], Delete(ball))


def test_selections_are_for_one_scene(scene: Gaussians, ball: Chosen, tmp_path: Path) -> None:
    edits, path = Edits(scene_fingerprint(scene)), tmp_path / "ball.selection.json"
    write_selection(path, edits, ball)
    assert torch.equal(read_selection(path, edits).mask, ball.mask)
    with pytest.raises(InputError, match="before another edit"):
        read_selection(path, edits.then(Delete(ball)))
    path.write_text("{}")
    with pytest.raises(InputError, match="is missing"):
        read_selection(path, edits)


def test_a_run_is_opened_edited(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Every command sees the edits, and the learned lens stays what it was."""
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(tiny_run(tmp_path_factory.getbasetemp(), "full"), folder)
    before = load_run(folder)
    count = len(before.model.gaussians)
    edits = Edits(scene_fingerprint(before.model.gaussians)).then(
        Delete(Chosen(torch.arange(count) < count // 2))
    )
    write_edits(folder, edits)
    after = load_run(folder)
    assert len(after.model.gaussians) == count - count // 2 and after.edited == 1 and after.invented == 0
    assert after.learned.Ks == before.learned.Ks
    assert len(load_run(folder, edited=False).model.gaussians) == count
    export(folder, tmp_path / "scene.ply", ExportOptions(), say=lambda line: None)
    assert len(read_ply(tmp_path / "scene.ply")) == count - count // 2
    document = json.loads(edits_path(folder).read_text())
    assert document["edits"][0]["splats"]["chosen"] == count // 2
