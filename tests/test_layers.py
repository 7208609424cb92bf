"""The blur of a picture by circles of confusion: `cocogs.optics.layers`."""

import math

import pytest
import torch
from torch import Tensor

from cocogs.errors import InputError
from cocogs.optics import layers
from cocogs.optics.layers import blur_layers


def picture(height: int = 96, width: int = 150) -> Tensor:
    """Waves and a little noise, linear light."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([0.5 + 0.3 * torch.sin(x / (3 + c)) * torch.cos(y / 5) for c in range(3)])
    return waves + 0.1 * torch.rand(3, height, width, generator=generator)


def steps(height: int = 96, width: int = 150) -> Tensor:
    """Circles of confusion of a floor that comes nearer, and of a square that stands on it."""
    coc = torch.linspace(-9, 6, height)[:, None].expand(height, width).clone()
    coc[30:60, 50:90] = 5.0
    return coc


def decibels(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()) + 1e-12)


def test_no_blur_changes_nothing() -> None:
    light = picture()
    assert torch.allclose(blur_layers(light, torch.zeros(96, 150)), light, atol=1e-6)


def test_tiles_show_what_the_whole_picture_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    light, coc = picture(), steps()
    whole = blur_layers(light, coc)
    monkeypatch.setattr(layers, "TILE", 40)
    shares: list[float] = []
    tiled = blur_layers(light, coc, check=shares.append)
    assert len(shares) > 6 and shares == sorted(shares) and shares[-1] == 1
    assert decibels(tiled, whole) > 55


def test_coarse_pixels_are_enough_for_a_strong_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    light, coc = picture(200, 240), 5 * steps(200, 240)
    quick = blur_layers(light, coc)
    monkeypatch.setattr(layers, "COARSE", 1e9)
    assert decibels(quick, blur_layers(light, coc)) > 50


def test_a_slanted_plane_keeps_its_mean_and_loses_detail_by_its_blur() -> None:
    light = picture()
    coc = torch.linspace(0, 12, 96)[:, None].expand(96, 150)
    blurred = blur_layers(light, coc)
    inner = slice(10, -10)
    assert float(blurred[:, inner, inner].mean()) == pytest.approx(
        float(light[:, inner, inner].mean()), rel=0.01
    )
    kept = blurred.diff(dim=2).square().mean((0, 2)) / light.diff(dim=2).square().mean((0, 2))
    kept = [float(kept[rows].mean()) for rows in (slice(0, 8), slice(44, 52), slice(86, 94))]
    assert kept[0] > 0.8 and kept[0] > 1.5 * kept[1] > 3 * kept[2]


def test_a_blurred_background_does_not_spread_over_what_is_in_focus() -> None:
    light, coc = torch.full((3, 60, 80), 1.0), torch.full((60, 80), -12.0)
    light[:, 20:40, 30:50], coc[20:40, 30:50] = 0.1, 0.0
    shown = blur_layers(light, coc)
    assert float(shown[:, 22:38, 32:48].max()) < 0.12
    assert float(shown[:, 30, 60].min()) > 0.97, "nor does what is in focus spread over it"


def test_a_blurred_foreground_spreads_over_what_is_in_focus() -> None:
    light, coc = torch.full((3, 60, 80), 1.0), torch.zeros(60, 80)
    light[:, 20:40, 30:50], coc[20:40, 30:50] = 0.1, 12.0
    shown = blur_layers(light, coc)[0, 30]
    assert 0.4 < float(shown[30]) < 0.7, "half of the lens sees past the edge"
    assert float(shown[27]) < 0.95 and float(shown[22]) > 0.99


def test_light_and_circles_get_gradients_of_the_right_size() -> None:
    light, coc = picture(24, 30).double().requires_grad_(), steps(24, 30).double().requires_grad_()
    weights = torch.rand(3, 24, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(scale: float = 0.0) -> Tensor:
        return (blur_layers(light, coc * (1 + scale)) * weights).sum()

    by_light, by_coc = torch.autograd.grad(loss(), (light, coc))
    assert float(by_light.abs().min()) > 0
    with torch.no_grad():
        slope = float(loss(1e-5) - loss(-1e-5)) / 2e-5
    coc = coc.detach()
    assert float((by_coc * coc).sum()) == pytest.approx(slope, rel=0.02)


def test_a_blur_wider_than_the_picture_and_one_that_is_no_number_are_refused() -> None:
    for bad, words in ((400.0, "more than the picture's size"), (math.nan, "must be a finite number of px")):
        with pytest.raises(InputError, match=words):
            blur_layers(picture(), torch.full((96, 150), bad))


def test_a_very_wide_disc_is_even() -> None:
    light = torch.zeros(3, 900, 900)
    light[:, 450, 450] = 1e5
    disc = blur_layers(light, torch.full((900, 900), 800.0))[0, 450 - 200 : 450 + 200, 450 - 200 : 450 + 200]
    assert float(disc.std() / disc.mean()) < 0.02


@pytest.mark.cuda
def test_a_gpu_shows_the_same() -> None:
    light, coc = picture(), steps()
    shown = blur_layers(light.cuda(), coc.cuda(), 0.5, blades=6)
    assert decibels(shown.cpu(), blur_layers(light, coc, 0.5, blades=6)) > 80
