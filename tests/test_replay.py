"""A replayed step gives what the step gives. Recording needs a GPU; the tests of the bookkeeping do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import Losses
from tiny_run import TEST_EVERY, tiny_scene
from torch import Tensor

from cocogs.config import DataConfig, preset
from cocogs.rasterize.room import Room, current_room
from cocogs.run import open_data
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


class FakeRecorder:
    """Records without a GPU. As with a CUDA graph, recording a step does not do it, and each replay leaves
    its numbers in the same tensor."""

    def __init__(self) -> None:
        self.rooms: list[Room | None] = []

    def __call__(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.rooms.append(current_room())
        numbers = torch.zeros(1)

        def again() -> None:
            numbers.copy_(step())

        return again, numbers


CPU = torch.device("cpu")


def test_what_needs_more_room_is_recorded_anew() -> None:
    total = torch.zeros(1)
    replay = Replay(lambda number: total.add_(number).clone(), {}, CPU, FakeRecorder())

    def run(times: int) -> float:
        return [replay.run((2,)) for _ in range(times)][-1].item()

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


def test_one_recording_serves_all_inputs() -> None:
    """The same sums as without recording, from one graph per kind; the caller's tensors stay its own."""
    recorder = FakeRecorder()

    def step(factor: int, photo: Tensor, camera: Tensor) -> Tensor:
        return factor * (photo.sum() + camera).reshape(1)

    replay = Replay(step, {}, CPU, recorder)
    generator = torch.Generator().manual_seed(0)
    results: list[Tensor] = []
    for i in range(30):
        photo, camera = torch.rand(3, 4, 5, generator=generator), torch.rand(1, generator=generator)
        before = photo.clone()
        results.append(replay.run((1 + i % 2,), {"photo": photo, "camera": camera}))
        assert torch.equal(results[-1], step(1 + i % 2, photo, camera)) and torch.equal(photo, before)
    assert len(recorder.rooms) == len(replay.recordings) == 2 and replay.count == 28
    assert len({result.data_ptr() for result in results}) == 30  # a later step does not change them


def test_inputs_of_another_name_or_shape_are_refused() -> None:
    replay = Replay(lambda photo: photo.sum().reshape(1), {}, CPU, FakeRecorder())
    for _ in range(2):
        replay.run((), {"photo": torch.ones(2, 3)})
    for wrong in ({"photo": torch.ones(2, 1)}, {"picture": torch.ones(2, 3)}, {}):
        with pytest.raises(ValueError, match="takes other inputs"):
            replay.run((), wrong)


def test_a_step_keeps_to_its_room_only_while_it_runs() -> None:
    """The first step measures, the recorded one has 1.5 times that; outside there is no room."""

    def step() -> Tensor:
        room = current_room()
        if room is not None:
            assert room.most is None
            room.most = 200  # as a forward pass notes it
        return torch.zeros(1)

    recorder = FakeRecorder()
    replay = Replay(step, {}, CPU, recorder)
    replay.run(())
    assert current_room() is None and replay.needs == {(): 200} and not recorder.rooms
    replay.run(())
    assert current_room() is None
    assert recorder.rooms == [replay.recordings[()].room] and replay.recordings[()].room.most == 300


@pytest.mark.cuda
def test_recordings_on_a_gpu() -> None:
    device = torch.device("cuda")
    total = torch.zeros(1, device=device)
    replay = Replay(lambda factor, number: total.add_(factor * number).clone(), {}, device)
    for i in range(30):
        expected = total.clone() + 2 * i
        assert torch.equal(replay.run((2,), {"number": torch.full((1,), float(i), device=device)}), expected)
    assert replay.count == 29 and len(replay.recordings) == 1
