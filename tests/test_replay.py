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


def make(step: Callable[..., Tensor], photos: int = 1, recorder: FakeRecorder | None = None) -> Replay:
    return Replay(step, torch.zeros(1, dtype=torch.long), photos, {}, recorder or FakeRecorder())


def test_what_needs_more_room_is_recorded_anew() -> None:
    total = torch.zeros(1)
    replay = make(lambda number: total.add_(number).clone())

    def run(times: int) -> float:
        return [replay.run(0, "size", 2) for _ in range(times)][-1].item()

    assert run(1) == 2 and not replay.recordings
    replay.needs["size"].fill_(100)
    assert run(1) == 4
    first = replay.recordings["size", (2,)]
    assert first.room.most == 150
    first.room.needed.fill_(140)
    assert run(39) == 82
    second = replay.recordings["size", (2,)]
    assert second is not first and second.room.most == 210
    second.room.needed.fill_(100)
    run(1)
    replay.forget(1.2)
    assert replay.needs["size"].tolist() == [120] and not replay.recordings
    assert run(1) == 86 and replay.recordings["size", (2,)].room.most == 180


def test_room_is_made_for_the_photo_that_needs_most() -> None:
    """One recording for all; what each needed last is kept, and falls again."""

    def step() -> Tensor:
        if (room := current_room()) is not None and room.most is None:
            room.most = 100 * (1 + int(replay.photo))
        return torch.zeros(1)

    replay = make(step, photos=3)

    def run(photo: int) -> None:
        replay.photo.fill_(photo)
        replay.run(photo, "size")

    for photo in (0, 1, 2):
        run(photo)
    assert replay.needs["size"].tolist() == [100, 200, 300] and not replay.recordings
    run(0)
    recording = replay.recordings["size", ()]
    assert recording.room.most == 450
    recording.room.needed.fill_(50)
    run(2)
    assert replay.needs["size"].tolist()[1:] == [200, 50] and len(replay.recordings) == 1


def test_each_kind_has_one_recording() -> None:
    """The same numbers as without recording; a later step does not change those of an earlier one."""
    recorder, done = FakeRecorder(), torch.zeros(1)
    replay = make(lambda factor: factor * done.add_(1), recorder=recorder)
    results = [replay.run(0, "size", 1 + i % 2) for i in range(30)]
    assert [result.item() for result in results] == [(1 + i % 2) * (i + 1) for i in range(30)]
    assert len(recorder.rooms) == len(replay.recordings) == 2 and replay.count == 28


def test_a_step_keeps_to_its_room_only_while_it_runs() -> None:
    """The first step measures, the recorded one has 1.5 times that; outside there is no room."""

    def step() -> Tensor:
        room = current_room()
        if room is not None:
            assert room.most is None
            room.most = 200  # as a forward pass notes it
        return torch.zeros(1)

    recorder = FakeRecorder()
    replay = make(step, recorder=recorder)
    replay.run(0, "size")
    assert current_room() is None and replay.needs["size"].tolist() == [200] and not recorder.rooms
    replay.run(0, "size")
    assert current_room() is None
    assert recorder.rooms == [replay.recordings["size", ()].room]
    assert replay.recordings["size", ()].room.most == 300


@pytest.mark.cuda
def test_recordings_on_a_gpu() -> None:
    device = torch.device("cuda")
    total, photo = torch.zeros(1, device=device), torch.zeros(1, dtype=torch.long, device=device)
    replay = Replay(lambda factor: total.add_(factor).clone(), photo, 1, {})
    for i in range(30):
        assert replay.run(0, "size", 2).item() == 2 * (i + 1)
    assert replay.count == 29 and len(replay.recordings) == 1
