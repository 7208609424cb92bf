"""A run read back: its learned lens as one to set."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import FX, tiny_run

from cocogs.errors import InputError
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import refocus
from cocogs.run import Run, load_gaussians, load_run
from cocogs.scene import LensFacts


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


def test_the_lens_is_that_of_lens_json(run: Run) -> None:
    photos = json.loads((run.folder / "lens.json").read_text())["photos"]
    for photo in photos:
        lens = run.lens(photo["name"])
        assert lens.focus_distance == pytest.approx(photo["focus_distance"])
        assert lens.aperture_diameter == pytest.approx(photo["aperture_diameter"])
        index = [view.name for view in run.scene.train_views].index(photo["name"])
        assert photo["softness_px"] ** 2 == pytest.approx(float(run.model.focus.softness[index].detach()))
    distances = sorted(photo["focus_distance"] for photo in photos)
    assert run.lens().focus_distance == pytest.approx(distances[(len(distances) - 1) // 2])
    assert run.lens().aperture_diameter == pytest.approx(photos[0]["aperture_diameter"])  # one for all


def test_photos_without_a_learned_lens(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match=r"'view_0\.png' is no training photo"):
        run.lens("view_0.png")
    with pytest.raises(InputError, match="has no lens to refocus"):
        load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs")).lens()


def test_f_number_is_read_from_the_photos(run: Run) -> None:
    """Photos at f/2 through one learned aperture: f/2; half of them taken at f/8: their geometric mean."""
    assert run.f_number() is None
    views = run.scene.views
    run.scene.views = [replace(view, lens=LensFacts(f_number=2.0)) for view in views]
    assert run.f_number() == pytest.approx(2.0)
    known = [None, 2.0, 8.0, None, 8.0, 2.0, None, None]  # views 0 and 4 are kept for testing
    run.scene.views = [replace(v, lens=LensFacts(f_number=f)) for v, f in zip(views, known, strict=True)]
    assert run.f_number() == pytest.approx((2 * 8 * 2) ** (1 / 3))


def test_the_papers_units_agree_at_the_typical_depth(tmp_path_factory: pytest.TempPathFactory) -> None:
    """There both readings of K blur alike: K px by physics, K fx / z in the paper's."""
    run = load_run(tiny_run(tmp_path_factory.getbasetemp(), "paper"))
    focus = run.model.focus
    raw, typical = float(focus.log_K[0].detach().exp()), float(focus.typical_depth)
    assert run.lens().aperture_diameter * FX == pytest.approx(raw * FX / typical)


def test_a_scene_is_drawn_as_it_was_trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert run.model.gaussians.antialiased and load_gaussians(run.folder).antialiased
    classic = load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))
    assert not classic.model.gaussians.antialiased
    camera, gaussians = run.scene.views[0].camera, run.model.gaussians
    with torch.no_grad():
        pictures = [run.model.sharp(camera).colors[0], refocus(gaussians, camera, Lens(4.0, 0.0))]
        gaussians.antialiased = False
        others = [run.model.sharp(camera).colors[0], refocus(gaussians, camera, Lens(4.0, 0.0))]
    assert torch.equal(*pictures) and torch.equal(*others) and not torch.equal(pictures[0], others[0])


def as_of_before(run: Run, name: str, folder: Path) -> Run:
    """The run with a checkpoint that lacks a part of the model."""
    shutil.copytree(run.folder, folder)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state["model"][name]
    torch.save(state, folder / "checkpoint.pt")
    return load_run(folder)


def test_runs_of_before_there_was_a_choice_are_drawn_as_they_were(run: Run, tmp_path: Path) -> None:
    assert not as_of_before(run, "gaussians._extra_state", tmp_path / "old").model.gaussians.antialiased


def test_runs_of_before_the_aperture_could_be_free_hold_it(run: Run, tmp_path: Path) -> None:
    assert float(as_of_before(run, "focus.held", tmp_path / "old").model.focus.held) == 1


def test_runs_of_before_photos_could_be_soft_hold_none(run: Run, tmp_path: Path) -> None:
    assert not as_of_before(run, "focus.softness", tmp_path / "old").model.focus.softness.any()
