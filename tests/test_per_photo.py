"""The learned quantities of the photos, one by one and as a family."""

import math
from dataclasses import fields

import pytest
import torch

from cocogs.config import OptimConfig
from cocogs.optics.per_photo import Aperture, Focus, PerPhoto, Softness
from cocogs.optics.photometric import Exposure

OPTIM = OptimConfig()


def family() -> list[PerPhoto]:
    distances = torch.tensor([2.0, 5.0, 40.0])
    return [Focus(distances, 4.0), Aperture(70.0, torch.ones(3)), Softness(3), Exposure(3)]


@pytest.mark.parametrize("part", family(), ids=lambda part: part.name)
def test_all_are_trained_shown_and_saved_alike(part: PerPhoto) -> None:
    assert part.name in {field.name for field in fields(OptimConfig)}, "it has a learning rate"
    assert part.rate(OPTIM, 1.0) < part.rate(OPTIM, 0.5)
    assert float(torch.as_tensor(part.price(OPTIM, 1)).detach()) == 0, "the start is free"
    part.keep_possible()
    for values in part.shown().values():
        assert len(values) in (1, 3) and all(map(math.isfinite, values))
    other = next(same for same in family() if same.name == part.name)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.1)
    other.load_state_dict(part.state_dict())
    assert all(map(torch.equal, part.parameters(), other.parameters()))


@pytest.mark.parametrize("part", family()[:3], ids=lambda part: part.name)
def test_the_lens_waits_until_the_scene_has_formed(part: PerPhoto) -> None:
    assert part.rate(OPTIM, 0.0) == 0 < part.rate(OPTIM, OPTIM.lens_from)


def test_focus_starts_where_it_is_told() -> None:
    start = torch.tensor([2.0, 5.0, 40.0])
    focus = Focus(start, 4.0)
    torch.testing.assert_close(focus.distances.detach(), start)
    for index, distance in enumerate(start):
        torch.testing.assert_close(focus.distance(index).detach(), distance)


def test_gradient_reaches_the_own_focus_distance_only() -> None:
    focus = Focus(torch.tensor([2.0, 5.0, 3.0]), 4.0)
    focus.distance(2).backward()
    assert focus.vergence.grad is not None
    assert (focus.vergence.grad != 0).tolist() == [False, False, True]


def test_a_photo_focused_at_infinity_comes_back() -> None:
    """A step may carry the vergence below zero, which means no distance at all, and so may the start."""
    focus = Focus(torch.tensor([math.inf, 5.0]), 4.0)
    with torch.no_grad():
        focus.vergence[1] = -0.5
    focus.keep_possible()
    assert (focus.distances > 100 * 4.0).all() and focus.distances.isfinite().all()
    optimizer = torch.optim.Adam([focus.vergence], lr=6e-3)
    for _ in range(300):
        optimizer.zero_grad()
        (1 / focus.distances - 1 / 6.0).square().sum().backward()
        optimizer.step()
        focus.keep_possible()
    torch.testing.assert_close(focus.distances.detach(), torch.full((2,), 6.0), rtol=0.02, atol=0)


def test_vergence_does_not_depend_on_the_unit_of_the_scene() -> None:
    start = torch.tensor([2.0, 5.0])
    torch.testing.assert_close(Focus(start, 4.0).vergence, Focus(start * 9, 4.0 * 9).vergence)


def test_one_aperture_for_all_photos_goes_with_their_ratios() -> None:
    """f/2 and f/8 through one lens: K by 4 apart, and one number moves both."""
    aperture = Aperture(20.0, torch.tensor([1.0, 0.25]))
    assert aperture.log_K.shape == (1,)
    torch.testing.assert_close(aperture.K(0).detach(), torch.tensor(20.0))
    torch.testing.assert_close(aperture.K(1).detach(), torch.tensor(5.0))


def test_an_aperture_per_photo() -> None:
    aperture = Aperture(70.0, torch.ones(3), per_photo=True)
    aperture.K(1).backward()
    assert aperture.log_K.grad is not None
    assert (aperture.log_K.grad != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("held", [1.0, 0.0])
def test_only_a_held_aperture_pays_for_leaving_its_start(held: float) -> None:
    aperture = Aperture(70.0, torch.ones(3), held=held)
    with torch.no_grad():
        aperture.log_K.add_(0.5)
    price = float(torch.as_tensor(aperture.price(OPTIM, 0)).detach())
    assert price == pytest.approx(held * 0.25 * OPTIM.K_prior)


def test_no_photo_is_sharper_than_sharp_and_softness_has_its_price() -> None:
    softness = Softness(2)
    with torch.no_grad():
        softness.variance.copy_(torch.tensor([-1.0, 4.0]))
    softness.keep_possible()
    assert softness.variance.tolist() == [0.0, 4.0] and softness.shown() == {"softness_px": [0.0, 2.0]}
    assert float(torch.as_tensor(softness.price(OPTIM, 1)).detach()) == pytest.approx(
        4 * OPTIM.softness_price
    )
