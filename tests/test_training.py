"""Training smoke: every preset learns something in 50 steps on a scene of 8 small photos."""

from pathlib import Path

import pytest
import torch
from tiny_run import TEST_EVERY, tiny_run, tiny_scene
from torch import Tensor

from cocogs.config import PRESETS, preset
from cocogs.run import DataConfig, load_run, open_data
from cocogs.trainer import Trainer


class Losses:
    """Stands in for the monitor and keeps the losses."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, step: int, loss: Tensor, mse: Tensor, count: int) -> None:
        self.values.append(float(loss))

    def evaluate(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", PRESETS)
def test_loss_falls(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tiny_scene(tmp_path_factory.getbasetemp())
    base = preset(name)
    optim = type(base.optim)(**{**vars(base.optim), "iterations": 50})
    strategy = type(base.strategy)(**{**vars(base.strategy), "max_gaussians": 400})
    config = preset(name, optim=optim, strategy=strategy)
    scene = open_data(DataConfig(str(data), test_every=TEST_EVERY), tmp_path, 0, lambda line: None)
    losses = Losses()
    assert Trainer(config, scene, tmp_path).train(losses)  # type: ignore[arg-type]
    passes = torch.tensor(losses.values[:48]).view(-1, len(scene.train_views)).mean(1)
    assert passes[-1] < 0.75 * passes[0], passes
    assert all(parameter.isfinite().all() for parameter in load_parameters(tmp_path))


def load_parameters(folder: Path) -> list[Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return [value for value in state["model"].values() if value.is_floating_point()]


def test_sharp_view_resembles_the_photo(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After 50 steps a pinhole knows its test views better than their mean colour does."""
    run = load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))
    for view in run.scene.test_views:
        photo = run.scene.photo(view)
        error = (run.model.sharp(view.camera).colors[0].detach() - photo).square().mean()
        grey = (photo.mean() - photo).square().mean()
        assert error < 0.8 * grey
