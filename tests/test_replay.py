"""A replayed step is the step itself. Recording needs a GPU; what it relies on is also in test_cuda.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import Losses
from tiny_run import TEST_EVERY, tiny_scene

from cocogs.config import preset
from cocogs.replay import Replay
from cocogs.run import DataConfig, open_data
from cocogs.trainer import Trainer


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
    total = torch.zeros(2, device=device)
    replay = Replay(lambda kind: total.add_(kind).clone(), {}, device)

    def run(times: int, kind: int) -> float:
        return [replay.run(kind) for _ in range(times)][-1][0].item()

    assert run(1, 2) == 2
    replay.rooms[(2,)].most = 100
    assert run(10, 2) == 22
    first = replay.recordings[(2,)]
    assert run(30, 2) == 82 and replay.recordings[(2,)] is first and replay.rooms[(2,)].most == 150
    replay.rooms[(2,)].needed.fill_(140)
    assert run(25, 2) == 132
    assert replay.recordings[(2,)] is not first and replay.rooms[(2,)].most == 210
    replay.forget()
    assert not replay.recordings and not replay.rooms
