"""Photos of one scene that differ in exposure and tint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_training import Losses
from tiny_run import write_tiny_scene

from cocogs.config import DataConfig, preset
from cocogs.optics.photometric import Exposure
from cocogs.run import load_run, open_data, write_config
from cocogs.train.trainer import Trainer


def test_starts_at_the_photo_as_it_is_and_keeps_the_mean() -> None:
    exposure, image = Exposure(3), torch.rand(3, 4, 5)
    assert torch.equal(exposure(image, 1), image)
    exposure.log_gains.data = torch.randn(3, 3)
    torch.testing.assert_close(exposure.gains().log().mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    brighter = exposure(image, 2) / image
    torch.testing.assert_close(brighter, exposure.gains()[2][:, None, None].expand(3, 4, 5))


@pytest.mark.parametrize("name", ["lens", "full"])
def test_finds_how_photos_were_exposed(name: str, tmp_path: Path) -> None:
    """Every photo of the tiny scene made darker, one channel more than the others."""
    data = write_tiny_scene(tmp_path / "data")
    gains = torch.linspace(0.75, 1.0, 8)[torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    tints = torch.tensor([1.0, 1.0, 0.9])
    for index, gain in enumerate(gains.tolist()):
        path = data / "images" / f"view_{index}.png"
        factors = (gain * (tints if index % 2 else torch.ones(3))).tolist()
        bands = [
            band.point(lambda value, f=f: round(value * f))
            for band, f in zip(Image.open(path).split(), factors, strict=True)
        ]
        Image.merge("RGB", bands).save(path)
    config = preset(name)
    config = replace(
        config,
        optim=replace(config.optim, iterations=300, exposure=6e-2),
        strategy=replace(config.strategy, max_gaussians=400),
    )
    description = DataConfig(str(data))
    scene = open_data(description, tmp_path / "run", 0, lambda line: None)
    write_config(tmp_path / "run", config, description)
    Trainer(config, scene, tmp_path / "run").train(Losses())

    exposure = load_run(tmp_path / "run").model.exposure  # and the checkpoint holds it
    assert exposure is not None
    values = gains[:, None] * torch.where(torch.arange(8)[:, None] % 2 == 1, tints, 1.0)
    truth = 2.2 * values.log()  # factors on pixel values are powers of factors on light
    error = exposure.gains().detach().log() - (truth - truth.mean(0))
    assert error.std() < 0.25 * (truth - truth.mean(0)).std(), error
