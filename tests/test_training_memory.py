"""A training that cannot fit is refused before its first step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import open_tiny_scene

from cocogs.config import preset
from cocogs.errors import InputError
from cocogs.train import memory
from cocogs.train.trainer import Trainer


def test_what_does_not_fit_is_refused_with_a_way_out(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, config = open_tiny_scene(tmp_path_factory), preset("full")
    config = replace(config, strategy=replace(config.strategy, max_gaussians=400))
    camera = scene.train_views[0].camera
    photos = len(scene.train_views) * 12 * camera.width * camera.height
    needed = memory.bytes_needed(config, camera.width * camera.height) + photos
    monkeypatch.setattr(memory, "free_memory", lambda device: needed)
    Trainer(config, scene, tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda device: needed - 1)
    with pytest.raises(InputError, match=f"{camera.width}x{camera.height} with preset full .* `downscale`"):
        Trainer(config, scene, tmp_path)


def test_the_last_part_of_full_needs_more_than_lens() -> None:
    """At 24 megapixels it did not fit into 24 GiB, and died at 80 % of the run."""
    pixels = 6000 * 4000
    lens, full = (memory.bytes_needed(preset(name), pixels) for name in ("lens", "full"))
    assert 8 * 2**30 < lens < 12 * 2**30 < full


def test_free_memory_is_that_of_this_machine() -> None:
    free = memory.free_memory(torch.device("cpu"))
    assert 2**20 < free < 2**50
