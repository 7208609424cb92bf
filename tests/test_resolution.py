"""What even the sharpest photo blurs away."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import Losses, open_tiny_scene
from tiny_run import APERTURE, FOCUS_DISTANCES, FX, tiny_camera

from cocogs.config import preset
from cocogs.optics import resolution
from cocogs.optics.lens import DISC_SIGMA, PhotoLens
from cocogs.optics.resolution import least_blur
from cocogs.rasterize.constants import PIXEL_VARIANCE
from cocogs.train.trainer import Trainer

CAMERAS = [tiny_camera(index) for index in range(3)]


def lenses(softness: float = 0.0) -> list[PhotoLens]:
    """Those of the three photos; the second is as soft as asked for."""
    K = torch.tensor(APERTURE)
    soft = (0.0, softness, 0.0)
    return [PhotoLens(torch.tensor(z), K, s) for z, s in zip(FOCUS_DISTANCES, soft, strict=True)]


def test_sharpest_photo_counts() -> None:
    """In focus in one photo: a pixel blurs. Else also the least circle of confusion, in scene units there."""
    middle = torch.tensor([0.0, 0.0, 4.5])  # on which all cameras look, from about the same distance
    depths = torch.stack([camera.depths(middle) for camera in CAMERAS])
    least = (APERTURE * (1 / depths - 1 / torch.tensor(FOCUS_DISTANCES))).abs().min()
    px = ((DISC_SIGMA / 2 * least).square() + PIXEL_VARIANCE).sqrt()
    expected = px * depths[1] / FX  # the second, focused on 4, is the sharpest
    torch.testing.assert_close(least_blur(middle[None], CAMERAS, lenses()), expected[None].float())
    in_focus = middle + (4.0 - CAMERAS[1].depths(middle)) * CAMERAS[1].cam_from_world[2, :3].float()
    one_pixel = math.sqrt(PIXEL_VARIANCE) * 4.0 / FX
    torch.testing.assert_close(least_blur(in_focus[None], CAMERAS, lenses()), torch.tensor([one_pixel]))
    assert least_blur(middle[None], CAMERAS[:1], lenses()[:1]) > 2 * expected


def test_a_soft_photo_tells_less() -> None:
    middle = torch.tensor([[0.0, 0.0, 4.5]])
    still = least_blur(middle, CAMERAS, lenses())
    depth = CAMERAS[1].depths(middle).float()
    sharpest = least_blur(middle, CAMERAS[1:2], lenses()[1:2])
    torch.testing.assert_close(sharpest, still)
    shaken = least_blur(middle, CAMERAS, lenses(softness=1.0))
    assert still < shaken <= (still.square() + (depth / FX).square()).sqrt()


def test_only_photos_that_look_there_count() -> None:
    nowhere = torch.tensor([[0.0, 0.0, -5.0], [50.0, 0.0, 4.5]])  # behind, and beside the picture
    assert torch.equal(least_blur(nowhere, CAMERAS, lenses()), torch.zeros(2))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["lens", "full", "3dgs"])
def test_trained_splats_are_no_thinner(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = preset(name)
    optim = replace(config.optim, iterations=60, K_prior=0.0)
    strategy = replace(config.strategy, max_gaussians=400, finest=30.0)
    trainer = Trainer(
        replace(config, optim=optim, strategy=strategy), open_tiny_scene(tmp_path_factory), tmp_path
    )
    trainer.train(Losses())
    thinnest = trainer.model.gaussians.scales.detach().exp().amin(1)
    finest = trainer.finest.exp()
    if name == "3dgs":
        assert torch.equal(finest, torch.zeros_like(thinnest))
        return
    assert (thinnest >= finest * (1 - 1e-6)).all()
    held = thinnest <= finest * (1 + 1e-6)
    assert 0.05 < held.float().mean() < 1  # and some would be


def test_many_photos_give_the_same_as_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted out by blocks: photos that look elsewhere, or are less sharp there, are not asked."""
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    cameras, many = [], []
    for index in range(60):
        moved = tiny_camera(index % 8).cam_from_world.clone()
        moved[:3, 3] += 80 * random(3) - 40
        cameras.append(replace(tiny_camera(0), cam_from_world=moved))
        many.append(PhotoLens(1 + 8 * random(1)[0], 30 * random(1)[0], 0.3 * random(1)[0]))
    means = torch.randn(3001, 3, generator=generator) * torch.tensor([20.0, 20.0, 20.0])
    expected = least_blur(means, cameras, many)
    asked = []
    blur = resolution._Photos.blur
    monkeypatch.setattr(resolution._Photos, "blur", lambda *a: asked.append(a[1].shape) or blur(*a))
    monkeypatch.setattr(resolution, "MOST_LOOPED", 59)
    monkeypatch.setattr(resolution, "BLOCK", 32)
    torch.testing.assert_close(least_blur(means, cameras, many), expected)
    assert 0.02 < (expected == 0).float().mean() < 0.95, "some are seen by nobody"
    assert sum(blocks * places for blocks, places, _ in asked) < 0.6 * 60 * 3001
    assert least_blur(means[:3], cameras, many).shape == (3,)
