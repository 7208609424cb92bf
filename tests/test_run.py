"""A run read back: its learned lens as one to set."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_run import FX, tiny_run

from cocogs.checkpoint import load_gaussians
from cocogs.errors import InputError
from cocogs.optics.lens import Lens
from cocogs.optics.lens_models.base import ThinLens
from cocogs.render.refocusing import refocus
from cocogs.run import Run, load_run
from cocogs.scene import LensFacts


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


def test_the_lens_is_that_of_lens_json(run: Run) -> None:
    photos = [p for p in json.loads((run.folder / "lens.json").read_text())["photos"] if not p["test"]]
    assert isinstance(run.model.lens, ThinLens)
    softness = run.model.lens.softness
    for photo in photos:
        lens = run.lens(photo["name"])
        assert lens.focus_distance == pytest.approx(photo["focus_distance"])
        assert lens.aperture_diameter == pytest.approx(photo["aperture_diameter"])
        index = [view.name for view in run.scene.train_views].index(photo["name"])
        assert photo["softness_px"] ** 2 == pytest.approx(float(softness.variance[index].detach()))
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
    assert run.learned.f_number is None
    views = run.scene.views
    run.scene.views = [replace(view, lens=LensFacts(f_number=2.0)) for view in views]
    assert run.learned.f_number == pytest.approx(2.0)
    known = [None, 2.0, 8.0, None, 8.0, 2.0, None, None]  # views 0 and 4 are kept for testing
    run.scene.views = [replace(v, lens=LensFacts(f_number=f)) for v, f in zip(views, known, strict=True)]
    assert run.learned.f_number == pytest.approx((2 * 8 * 2) ** (1 / 3))


@pytest.mark.thorough
def test_the_papers_units_agree_at_the_typical_depth(tmp_path_factory: pytest.TempPathFactory) -> None:
    """There both readings of K blur alike: K px by physics, K fx / z in the paper's."""
    run = load_run(tiny_run(tmp_path_factory.getbasetemp(), "paper"))
    lens = run.model.lens
    raw, typical = float(lens.aperture.log_K[0].detach().exp()), float(lens.focus.typical_depth)
    assert run.lens().aperture_diameter * FX == pytest.approx(raw * FX / typical)


def test_a_scene_is_drawn_as_it_was_trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert run.model.gaussians.antialiased and load_gaussians(run.folder, run.config).antialiased
    classic = load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))
    assert not classic.model.gaussians.antialiased
    camera, gaussians = run.scene.views[0].camera, run.model.gaussians
    with torch.no_grad():
        pictures = [run.model.sharp(camera).colors[0], refocus(gaussians, camera, Lens(4.0, 0.0))]
        gaussians.antialiased = False
        others = [run.model.sharp(camera).colors[0], refocus(gaussians, camera, Lens(4.0, 0.0))]
    assert torch.equal(*pictures) and torch.equal(*others) and not torch.equal(pictures[0], others[0])
