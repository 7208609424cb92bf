"""Steps of several photos: what moves, how far, and that recorded steps give the same."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Backend, parameters
from test_training import Losses, open_tiny_scene
from torch import Tensor

from cocogs.config import Config, preset
from cocogs.errors import InputError
from cocogs.rasterize.room import current_room, use_room
from cocogs.scene import Scene
from cocogs.train.rates import make_optimizers, rates_at
from cocogs.train.replay import Replay
from cocogs.train.shot import How
from cocogs.train.trainer import Trainer


def settings(batch: int, photos: int = 100, name: str = "lens") -> Config:
    base = preset(name)
    strategy = replace(base.strategy, extra_points=50, max_gaussians=300, every=20, gradient=1e-4)
    return replace(base, optim=replace(base.optim, iterations=photos, batch=batch), strategy=strategy)


def trained(config: Config, folder: Path, scene: Scene, replayed: bool = False) -> Trainer:
    trainer = Trainer(config, scene, folder)
    if replayed:
        photos = len(trainer.views)
        trainer.replay = Replay(trainer.step_on_slot, trainer.slots.index, photos, {}, record)
    assert trainer.train(Losses())
    return trainer


def record(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Without a GPU. As with a CUDA graph, each replay keeps to the room of the recording, and leaves its
    numbers in the same tensor."""
    numbers, room = torch.zeros(2), current_room()
    assert room is not None

    def again() -> None:
        with use_room(room):
            numbers.copy_(step())

    return again, numbers


@pytest.mark.thorough
def test_gradients_of_a_batch_are_the_mean(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    trainer = Trainer(settings(3), open_tiny_scene(tmp_path_factory), tmp_path)

    def gradients(photos: list[tuple[int, float]]) -> Tensor:
        trainer.model.zero_grad()
        for index, share in photos:
            trainer.pull(trainer.shot(index), How(False, False, 0, False, share))
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])

    singles = torch.stack([gradients([(index, 1.0)]) for index in (0, 4, 5)])
    together = gradients([(index, 1 / 3) for index in (0, 4, 5)])
    torch.testing.assert_close(together, singles.mean(0), atol=1e-8, rtol=1e-4)
    assert not gradients([(0, 0.0)]).any()  # that of a rank that has no photo of its own


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "batch"), [("lens", 3), ("lens", 1), ("full", 1), ("3dgs", 1), ("paper", 1), ("photometric", 1)]
)
def test_recorded_steps_end_in_the_same_bits(
    name: str, batch: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One recording serves one photo after another, also after splats were added; those of a batch add to the
    gradients of the photos before."""
    config = settings(batch, name="lens" if name == "photometric" else name)
    if name == "photometric":
        config = replace(config, model=replace(config.model, photometric=True))
    plain = trained(config, tmp_path / "plain", open_tiny_scene(tmp_path_factory))
    recorded = trained(config, tmp_path / "recorded", open_tiny_scene(tmp_path_factory), replayed=True)
    assert recorded.replay is not None and recorded.replay.count > 50
    assert len(recorded.slots.shots) == 1
    for key, value in plain.model.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, recorded.model.state_dict()[key]), key


@pytest.mark.thorough
def test_recorded_steps_of_cameras_and_masks_of_many_kinds(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One photo has a mask, two another camera; all are seen at half their size first."""
    monkeypatch.setattr("cocogs.train.trainer.SMALL", 1)
    scene = open_tiny_scene(tmp_path_factory)
    place = [index for index, view in enumerate(scene.views) if not view.is_test]
    mask = torch.ones(scene.views[0].camera.height, scene.views[0].camera.width, dtype=torch.bool)
    mask[:, ::3] = False
    np.save(tmp_path / "mask.npy", mask.numpy())
    scene.views[place[1]] = replace(scene.views[place[1]], mask_path=tmp_path / "mask.npy")
    for index in place[2:4]:
        camera = scene.views[index].camera
        intrinsics = camera.intrinsics * torch.tensor([1.02, 1.02, 1.0])[:, None]
        scene.views[index] = replace(scene.views[index], camera=replace(camera, intrinsics=intrinsics))
    config = settings(1, name="full")
    plain, recorded = (
        trained(config, tmp_path / str(replayed), scene, replayed) for replayed in (False, True)
    )
    assert recorded.replay is not None and recorded.replay.count > 20
    assert recorded.photo_kinds == len(recorded.slots.shots) == 3 and len(recorded.slots.pixels) == 2
    assert len(recorded.replay.needs) == 3  # at half the size, whole, through samples
    for key, value in plain.model.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, recorded.model.state_dict()[key]), key


@pytest.mark.thorough
@pytest.mark.parametrize("backend", parameters([Backend("native", torch.float32, "host")]), indirect=True)
def test_recorded_steps_of_the_gpu_s_kernels(
    backend: Backend, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same, by the kernels of a GPU, which keep to the memory that the recording has."""
    config = settings(1, name="full")
    plain = trained(config, tmp_path / "plain", open_tiny_scene(tmp_path_factory))
    recorded = trained(config, tmp_path / "recorded", open_tiny_scene(tmp_path_factory), replayed=True)
    assert recorded.replay is not None and recorded.replay.count > 10
    assert all(bool((needs > 100).all()) for needs in recorded.replay.needs.values())
    assert torch.equal(plain.model.gaussians.means, recorded.model.gaussians.means)


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [1, 4])
def test_rates_go_with_the_root_of_the_batch(
    batch: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = settings(batch)
    trainer = Trainer(config, open_tiny_scene(tmp_path_factory), tmp_path)
    one = {name: o.param_groups[0] for name, o in make_optimizers(trainer.model, settings(1), 1.0).items()}
    for name, optimizer in make_optimizers(trainer.model, config, 1.0).items():
        [group] = optimizer.param_groups
        assert group["lr"] == math.sqrt(batch) * one[name]["lr"]
        assert group["betas"] == (0.9**batch, 0.999**batch)
    rates, single = (rates_at(0.5, trainer.model, c.optim, 1.0) for c in (config, settings(1)))
    assert rates == {name: math.sqrt(batch) * rate for name, rate in single.items()}


@pytest.mark.thorough
def test_a_focus_moves_as_far_per_photo_seen() -> None:
    """What only one of many photos pulls at: alone every 40th step of one photo, or every 10th of four."""
    moved = []
    for batch in (1, 4):
        value = torch.nn.Parameter(torch.zeros(()))
        scale = math.sqrt(batch)
        adam = torch.optim.Adam([value], 1e-3 * scale, betas=(0.9**batch, 0.999**batch), eps=1e-15 / scale)
        for step in range(0, 8000, batch):
            value.grad = torch.tensor(1 / batch if step % 40 == 0 else 0.0)
            adam.step()
        moved.append(float(value.detach()))
    assert moved[1] == pytest.approx(moved[0], rel=0.1)


def test_a_batch_has_no_more_photos_than_there_are(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(InputError, match="A `batch` of 1000 photos is more than the"):
        Trainer(settings(1000), open_tiny_scene(tmp_path_factory), tmp_path)
