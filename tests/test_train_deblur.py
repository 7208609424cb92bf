"""The scenes that DeblurNet learns from, and its training (scripts/deblur_pairs.py, train_deblur.py)."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import deblur_pairs as pairs  # pyright: ignore[reportMissingImports]
import train_deblur as training  # pyright: ignore[reportMissingImports]

from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.photo.deblur import load_deblurrer
from cocogs.srgb import to_srgb

SIZE = 64


def plain(nearness: float, seed: int = 0) -> pairs._Layer:
    """A plane that fills the picture."""
    wide = SIZE + 2 * pairs.MARGIN
    light = torch.rand(3, wide, wide, generator=torch.Generator().manual_seed(seed))
    return pairs._Layer(torch.cat([light, torch.ones(1, wide, wide)]), torch.full((wide, wide), nearness))


def test_a_scene_is_a_function_of_seed_and_number() -> None:
    one, same = (pairs.photograph_scene(3, 7, SIZE) for _ in range(2))
    other, again = pairs.photograph_scene(3, 8, SIZE), pairs.photograph_scene(4, 7, SIZE)
    assert torch.equal(one.photos, same.photos) and torch.equal(one.coc, same.coc)
    assert not torch.equal(one.sharp, other.sharp) and not torch.equal(one.sharp, again.sharp)
    assert one.photos.shape == (2, 3, SIZE, SIZE) and one.coc.shape == (2, SIZE, SIZE)
    assert 0 <= float(one.photos.min()) and float(one.photos.max()) <= 1
    assert float(one.coc.abs().max()) <= float(pairs.STEPS[-1])


def test_scenes_vary() -> None:
    shots = [pairs.photograph_scene(0, number, SIZE) for number in range(16)]
    widest = torch.stack([s.coc.abs().amax() for s in shots])
    assert float(widest.max()) > 16 and sum(bool(s.edge.any()) for s in shots) in range(4, 16)
    assert any(float(s.coc.min()) < -2 for s in shots) and any(float(s.coc.max()) > 2 for s in shots)


def test_a_plane_is_photographed_as_by_the_lens() -> None:
    layer = plain(7.3)
    sharp = layer.rgba[:3]
    lens = PhotoLens(torch.tensor(1.0), torch.tensor(7.3))
    expected = photograph_layers(sharp, torch.full(sharp.shape[1:], 0.5), lens)
    inner = slice(pairs.MARGIN, -pairs.MARGIN)
    got = pairs._through_lens([layer], 0.0)
    assert (got - expected)[:, inner, inner].abs().max() < 0.01
    assert torch.allclose(pairs._through_lens([layer], 7.3), sharp, atol=1e-5)


def test_what_is_hidden_shows_through_the_blurred_edge_of_what_hides_it() -> None:
    """Far out of focus, a bar narrower than its blur covers nothing wholly."""
    behind, bar = plain(0.0), plain(20.0, seed=1)
    cover = torch.zeros_like(bar.nearness)
    cover[:, 46:50] = 1
    front = pairs._Layer(torch.cat([0 * bar.rgba[:3], cover[None]]), bar.nearness)
    shown = pairs._through_lens([behind, front], 0.0)
    parts = shown / behind.rgba[:3]
    middle = parts[:, pairs.MARGIN : -pairs.MARGIN, 47:49]
    disc = 4 * 20 / (np.pi * 10**2)  # the bar's part of the disc, as long as it is narrow
    assert torch.allclose(middle, torch.tensor(1 - disc).float(), atol=0.02)
    assert torch.allclose(parts[:, :, pairs.MARGIN : 30], torch.tensor(1.0), atol=1e-3)


def test_files_have_noise_and_eight_bits() -> None:
    light = torch.full((3, 64, 64), 0.4)
    photos = [pairs.developed(light, np.random.default_rng(seed)) for seed in range(20)]
    deviations = [float(photo.std()) for photo in photos]
    assert 0 < max(deviations) < 0.02 and max(deviations) > 3 * min(deviations)
    eight_bits = [torch.allclose((to_srgb(p) * 255).round(), to_srgb(p) * 255, atol=1e-3) for p in photos]
    assert 10 <= sum(eight_bits) < 20


def arguments(out: Path, minutes: float) -> argparse.Namespace:
    return argparse.Namespace(out=out, minutes=minutes, seed=0, scenes=1, workers=0, device="cpu")


def test_training_learns_saves_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "SIZE", 32)
    monkeypatch.setattr(training, "RECENT", 4)
    monkeypatch.setattr(training, "VALIDATION_SCENES", 1)
    training.scene.cache_clear()
    training.train(arguments(tmp_path, 0.01))
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert first["step"] >= 1 and first["seconds"] >= 0.6
    assert "gain, dB by radius: 0-0.5:" in capsys.readouterr().out
    training.train(arguments(tmp_path, first["seconds"] / 60 + 0.01))
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert f"going on after {first['step']} steps" in capsys.readouterr().out
    assert second["step"] > first["step"]
    weights = load_file(tmp_path / "deblur.safetensors")
    average = second["average"]
    assert all(torch.equal(weights[name], average[name].half()) for name in average)
    assert load_deblurrer(tmp_path / "deblur.safetensors").facts["training"]["steps"] == second["step"]
    training.scene.cache_clear()


@pytest.mark.thorough
def test_other_processes_make_the_same_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SIZE", 32), ("CHUNK", 1), ("RECENT", 2)):
        monkeypatch.setattr(training, name, value)
    scenes = training.Scenes(0, workers=1)
    scenes.prepare(5)
    made = [scenes[number] for number in (5, 6)]
    scenes.prepare(6)
    scenes.close()
    assert sorted(scenes.chunks) == [6, 7, 8, 9]
    for number, shots in zip((5, 6), made, strict=True):
        assert torch.equal(shots.photos, pairs.photograph_scene(0, number, 32).photos)


def test_the_rate_rises_and_falls() -> None:
    assert training.rate(0, 0.0) == training.RATE / training.WARM_UP
    assert training.rate(1000, 0.0) == training.RATE and training.rate(1000, 1.0) == training.LAST_RATE
    assert training.rate(1000, 0.3) > training.rate(1000, 0.6)
