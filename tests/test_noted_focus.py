"""Focus distances that cameras noted: when they are believed, and what that does."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_camera, tiny_scene
from torch import Tensor

from cocogs.config import DataConfig, OptimConfig, preset
from cocogs.optics.evidence import FEW_POINTS, Evidence, aimed_depth, likely_depths, measure_photos
from cocogs.optics.noted_focus import FINEST, NotedFocus, agree, fits, robust_cost, robust_line
from cocogs.optics.per_photo import Aperture, Focus
from cocogs.run import open_data
from cocogs.scene import LensFacts
from cocogs.train.start import EXIF_K, UNSURE_K, start_lens

METRES = 0.23
"""In a scene unit of the imagined photos."""
OPTIM = OptimConfig()


def photos(
    count: int = 24, own: float = 0.05, exif: float = 0.02, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """True, found and noted focus distances: scene units, scene units, metres; with errors as parts."""
    generator = torch.Generator().manual_seed(seed)

    def errors(deviation: float) -> Tensor:
        return 1 + deviation * torch.randn(count, generator=generator)

    true = (0.8 + 0.6 * torch.rand(count, generator=generator)) / METRES
    noted = (METRES * true * errors(exif) * 100).round() / 100
    return true, true * errors(own), noted


def off(found: Tensor, true: Tensor) -> float:
    return float((found / true - 1).abs().median())


def test_the_line_tells_metres_and_how_well_the_camera_knows() -> None:
    true, found, noted = photos()
    known = agree(found, noted, own_error=0.05)
    assert known is not None
    assert known.error < 0.04 and known.scatter == pytest.approx(0.054, abs=0.02)
    assert off(1 / known.on_line, true) < 0.025
    assert off(known.start(found, 0.05), true) < off(found, true)


def test_a_camera_that_measures_from_the_sensor() -> None:
    """Some centimetres more than from the lens: the offset takes what the scale cannot."""
    true, _, _ = photos()
    known = agree(true, METRES * true + 0.05, own_error=0.02)
    assert known is not None and known.error == FINEST
    torch.testing.assert_close(1 / known.on_line, true.double(), rtol=0.01, atol=0)


def test_wrong_photos_do_not_move_the_line() -> None:
    true, found, noted = photos()
    noted[:2] = torch.tensor([0.1, 9.0])
    known = agree(found, noted, own_error=0.05)
    assert known is not None
    assert off(1 / known.on_line[2:], true[2:]) < 0.04


@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_tell_nothing_are_not_believed(seed: int) -> None:
    _, found, noted = photos(seed=seed)
    order = torch.randperm(len(noted), generator=torch.Generator().manual_seed(seed))
    assert agree(found, noted[order], 0.05) is None
    assert agree(found, torch.ones_like(noted), 0.05) is None
    assert agree(found, 1 / noted, 0.05) is None  # nearer where they are farther
    assert agree(torch.full_like(found, 4.0), noted, 0.05) is None  # nor where the photos tell nothing


def test_only_distances_that_follow_the_photos_tell_metres() -> None:
    found = torch.linspace(1, 5, 24)

    def fit(found: Tensor, noted: Tensor) -> bool:
        return fits(found.tolist(), [LensFacts(focus_distance=z) for z in noted.tolist()])

    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert fit(found, 0.5 * found) and not fit(found, 0.5 * found[order])
    assert not fit(found, torch.ones(24)) and not fit(found[:9], torch.ones(9))
    assert fit(torch.full((24,), 3.0), torch.ones(24))  # the focus stayed
    assert fit(found[:9], found[order][:9])  # too few to tell
    narrow = 3 + 0.1 * found
    assert fit(narrow, narrow[order])  # the median ratio is right


def test_few_noted_photos_are_not_believed() -> None:
    _, found, noted = photos()
    noted[9:] = math.nan
    assert agree(found, noted, 0.05) is None and agree(found, torch.full_like(noted, math.nan), 0.05) is None


def test_photos_that_noted_nothing_stay_where_they_were_found() -> None:
    _, found, noted = photos()
    noted[::2] = math.nan
    found[1] = 3 * found[1]  # contradicts its camera
    known = agree(found, noted, 0.05)
    assert known is not None
    start = known.start(found, 0.05)
    torch.testing.assert_close(start[::2], found[::2])
    assert float(start[1]) == pytest.approx(float(1 / known.on_line[1]), rel=1e-5)
    sure = known.start(found, 1e-4)  # a surer search is believed more
    assert off(sure[3::2], found[3::2]) < 1e-3


def test_the_robust_line_is_exact_on_a_line() -> None:
    x = torch.linspace(0.7, 1.4, 12, dtype=torch.float64)
    line, scatter = robust_line(x, 1.1 * x)
    assert line.tolist() == pytest.approx([1.1, 0.0], abs=1e-6) and scatter <= 1e-6


def test_far_off_costs_no_more() -> None:
    near, far = robust_cost(torch.tensor([0.1, 100.0]))
    assert float(near) == pytest.approx(0.01, rel=0.01) and float(far) == pytest.approx(4, rel=0.01)


def noted_focus() -> NotedFocus:
    vergence = torch.tensor([1.0, 1.2, math.nan], dtype=torch.float64)
    return NotedFocus(vergence, torch.tensor([1.0, 0.0], dtype=torch.float64), 0.25, 0.03, 0.05)


def test_leaving_the_line_has_its_price() -> None:
    known = noted_focus()
    focus = Focus((1 / known.on_line).nan_to_num(3.0).float(), 5.0, known)

    def price(index: int) -> Tensor:
        return torch.as_tensor(focus.price(OPTIM, index))

    assert float(price(0).detach()) == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        focus.vergence[0] *= 1.03
        focus.vergence[2] *= 2
    first = price(0)
    assert float(first.detach()) == pytest.approx(OPTIM.noted_price, rel=0.25)
    assert float(price(2).detach()) == 0  # this camera noted nothing
    first.backward()
    assert focus.vergence.grad is not None
    assert focus.vergence.grad[0] > 0 and focus.vergence.grad[1] == 0


def test_photos_may_move_together() -> None:
    """How long a metre is in the scene is for the photos to say."""
    known = noted_focus()
    focus = Focus((1 / known.on_line).nan_to_num(3.0).float(), 5.0, known)
    for _ in range(8):
        with torch.no_grad():
            focus.vergence[:2] *= 1.01
        focus.keep_possible()
    assert float(focus.line[0]) == pytest.approx(1.01**8, rel=0.01)
    assert float(torch.as_tensor(focus.price(OPTIM, 0)).detach()) < 0.1 * OPTIM.noted_price
    unknown = Focus(torch.full((3,), 4.0), 5.0)
    unknown.keep_possible()
    assert unknown.line.tolist() == [1.0, 0.0]


def test_a_saved_focus_keeps_what_was_noted() -> None:
    known = noted_focus()
    focus, other = Focus(torch.full((3,), 4.0), 5.0, known), Focus(torch.ones(3), 1.0)
    other.load_state_dict(focus.state_dict())
    assert torch.equal(torch.as_tensor(focus.price(OPTIM, 1)), torch.as_tensor(other.price(OPTIM, 1)))


def test_a_surer_aperture_is_held_more() -> None:
    prices = []
    for held in (1.0, (UNSURE_K / EXIF_K) ** 2):
        aperture = Aperture(70.0, torch.ones(3), held=held)
        with torch.no_grad():
            aperture.log_K.add_(EXIF_K)
        prices.append(float(torch.as_tensor(aperture.price(OPTIM, 0)).detach()))
    assert prices[1] == pytest.approx(OPTIM.K_prior * UNSURE_K**2) and prices[1] > 5 * prices[0]


def test_published_models_do_without() -> None:
    assert preset("paper").optim.noted_price == 0 < preset("lens").optim.noted_price


def test_autofocus_takes_what_is_near_in_the_middle() -> None:
    camera = tiny_camera(0)
    x = torch.linspace(-1, 1, 30)
    thin = torch.stack([0.1 * x, 0 * x, 0 * x + 3.0], 1)  # in front of a wall, both in the middle
    wall = torch.stack([x.repeat(10), torch.linspace(-0.3, 0.3, 300), torch.full((300,), 6.0)], 1)
    there = torch.cat([thin, wall])  # by the camera's axes
    world_from_cam = camera.cam_from_world.float().inverse()
    points = there @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    depths = there[:, 2].clone()
    assert float(aimed_depth(camera, points, depths)) == pytest.approx(3.0)
    depths[FEW_POINTS - 1 :] = math.nan
    assert aimed_depth(camera, points, depths).isnan()
    evidence = Evidence(torch.tensor([[2.0, 4.0], [2.0, 4.0]]), torch.ones(2, 2), 60)
    assert likely_depths(evidence).tolist() == [3.0, 3.0]
    assert likely_depths(replace(evidence, aimed=torch.tensor([2.0, math.nan]))).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("right", [True, False])
def test_training_starts_on_the_line(
    right: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One photo's search failed; its camera knows. Shuffled numbers change nothing but the unit."""
    root = tmp_path_factory.getbasetemp()
    scene = open_data(DataConfig(str(tiny_scene(root))), root / "opened", 0, lambda line: None)
    true = torch.linspace(3.0, 6.0, len(scene.train_views))
    found = true.clone()
    found[1] = 5.8
    noted = METRES * (true if right else true.roll(4))
    facts = [LensFacts(focal_length_mm=50.0, f_number=2.0, focus_distance=float(d)) for d in noted]
    views = [replace(view, lens=one) for view, one in zip(scene.train_views, facts, strict=True)]
    told = replace(scene, views=views)
    monkeypatch.setattr("cocogs.train.start.find_lens", lambda evidence, blurs: (found, 20.0, "none"))
    monkeypatch.setattr("cocogs.optics.noted_focus.FEWEST_TO_AGREE", len(true))
    start = start_lens(told, *measure_photos(told))
    assert (start.noted is not None) == right
    expected, held = (true, (UNSURE_K / EXIF_K) ** 2) if right else (found, 1.0)
    torch.testing.assert_close(start.focus_distances, expected, rtol=0.02, atol=0)
    assert start.held == pytest.approx(held)
    if right:
        assert start.K == pytest.approx(0.025 / METRES * views[0].camera.fx, rel=0.05)
