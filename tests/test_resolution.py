"""What even the sharpest photo blurs away."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import Losses, open_tiny_scene
from tiny_run import APERTURE, FOCUS_DISTANCES, FX, tiny_camera

from cocogs.config import preset
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
    if name == "3dgs":
        assert torch.equal(trainer.finest, torch.zeros_like(thinnest))
        return
    assert (thinnest >= trainer.finest * (1 - 1e-6)).all()
    held = thinnest <= trainer.finest * (1 + 1e-6)
    assert 0.05 < held.float().mean() < 1  # and some would be
