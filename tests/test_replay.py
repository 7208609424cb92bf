"""A replayed step is the step itself. Recording needs a GPU; what it relies on is also in test_cuda.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import Losses
from tiny_run import TEST_EVERY, tiny_scene

from cocogs.config import preset
from cocogs.run import DataConfig, open_data
from cocogs.train.replay import Replay
from cocogs.train.trainer import Trainer


def trained(name: str, folder: Path, data: Path, replayed: bool) -> tuple[Trainer, list[float]]:
    """300 steps in which splats are added and removed, colours get more bands, and the sets come in."""
    config = preset(name)
    config = replace(
        config,
        optim=replace(config.optim, iterations=300, sh_interval=60),
        strategy=replace(config.strategy, max_gaussians=600, every=30),
    )
    scene = open_data(DataConfig(str(data), test_every=TEST_EVERY), folder, 0, lambda line: None)
    trainer = Trainer(config, scene, folder, device="cuda")
    if not replayed:
        trainer.replay = None
    losses = Losses()
    assert trainer.train(losses)
    return trainer, losses.values


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["3dgs", "lens", "full", "paper"])
def test_replayed_steps_end_in_the_same_bits(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tiny_scene(tmp_path_factory.getbasetemp())
    (one, losses), (other, other_losses) = (
        trained(name, tmp_path / str(replayed), data, replayed) for replayed in (True, False)
    )
    assert one.replay is not None and one.replay.count > 100
    assert losses == other_losses
    for key, value in one.model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other.model.state_dict()[key]), key


@pytest.mark.cuda
def test_what_needs_more_room_is_recorded_anew() -> None:
    device = torch.device("cuda")
    total = torch.zeros(1, device=device)
    replay = Replay(lambda number: total.add_(number).clone(), {}, device)

    def run(times: int) -> float:
        return [replay.run(2) for _ in range(times)][-1].item()

    assert run(1) == 2 and not replay.recordings
    replay.needs[(2,)] = 100
    assert run(40) == 82
    first = replay.recordings[(2,)]
    assert first.room.most == 150
    first.room.needed.fill_(140)
    assert run(25) == 132
    second = replay.recordings[(2,)]
    assert second is not first and second.room.most == 210
    second.room.needed.fill_(100)
    replay.forget(1.2)
    assert replay.needs == {(2,): 120} and not replay.recordings
    assert run(1) == 134 and replay.recordings[(2,)].room.most == 180
