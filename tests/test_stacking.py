"""The stacking residual: what a bracket says about pictures that claim to be sharp (optics/stacking.py)."""

import math

import torch

from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.optics.stacking import AWAY, away_from_occlusions, stack_by_focus, stacking_residual

NEAR, FAR, K = 1.0, 2.0, 12.0  # scene units, px x scene unit: 6 px of blur between the two


def bracket() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sharp picture, two photos of it focused near and far, and their CoC: the left half is nearer."""
    sharp = torch.rand(3, 48, 96, generator=torch.Generator().manual_seed(0))
    depth = torch.full((48, 96), FAR)
    depth[:, :48] = NEAR
    lenses = [PhotoLens(torch.tensor(focus), torch.tensor(K)) for focus in (NEAR, FAR)]
    photos = torch.stack([photograph_layers(sharp, depth, lens) for lens in lenses])
    return sharp, photos, torch.stack([lens.coc(depth) for lens in lenses])


def test_the_stack_of_a_bracket_is_sharp_away_from_occlusions() -> None:
    sharp, photos, coc = bracket()
    stack = stack_by_focus(photos, coc)
    away = away_from_occlusions(coc)
    assert (stack - sharp)[:, away].abs().max() < 1e-4
    assert (stack - sharp)[:, ~away].abs().max() > 0.05
    assert not away[:, 48 - AWAY - 1 : 48 + AWAY + 1].any()
    assert away[:, : 48 - AWAY - 1].all() and away[:, 48 + AWAY + 1 :].all()


def test_sharp_pictures_leave_no_residual_and_photos_their_blur() -> None:
    sharp, photos, coc = bracket()
    assert float(stacking_residual(sharp[None], photos, coc).mean()) < 1e-5
    blurred = stacking_residual(photos, photos, coc)
    expected = (photos - sharp)[:, :, blurred.counts].abs().mean()
    assert math.isclose(float(blurred.mean()), float(expected), rel_tol=1e-3)
    assert float(blurred.mean()) > 0.02


def test_what_no_photo_has_in_focus_does_not_count() -> None:
    sharp, photos, coc = bracket()
    alone = stacking_residual(photos[:1], photos[:1], coc[:1])
    assert alone.counts[:, :30].all() and not alone.counts[:, 60:].any()
    nowhere = stacking_residual(sharp[None], photos, coc + 20)
    assert not nowhere.counts.any() and float(nowhere.mean()) == 0


def test_a_slanted_plane_hides_nothing() -> None:
    coc = torch.linspace(-20, 20, 96).expand(1, 48, 96)
    assert away_from_occlusions(coc).all()


def test_it_has_gradients() -> None:
    sharp, photos, coc = bracket()
    guess = (sharp[None] + 0.1).requires_grad_()
    residual = stacking_residual(guess, photos, coc)
    residual.mean().backward()
    assert guess.grad is not None
    assert (guess.grad[:, :, residual.counts] > 0).all() and not guess.grad[:, :, ~residual.counts].any()
