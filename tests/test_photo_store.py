"""Photos on the device, read ahead by a thread."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import make_colmap, mask_as_prepared
from PIL import Image

from cocogs.errors import InputError
from cocogs.io.pixels import to_float
from cocogs.scene import Scene, open_scene
from cocogs.scene import data as scene_data
from cocogs.train.photo_store import PhotoStore

CPU = torch.device("cpu")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Four photos, one with a mask; no photo is kept."""
    make_colmap(tmp_path / "data")
    scene = open_scene(tmp_path / "data", tmp_path / "cache", say=lambda line: None)
    Image.new("L", (240, 180), 255).save(tmp_path / "mask.png")
    views = [replace(scene.views[0], mask_path=mask_as_prepared(tmp_path / "mask.png")), *scene.views[1:]]
    return replace(scene, views=views, memory_budget=0)


def test_photos_read_ahead_are_the_same(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [scene.photo(view) for view in scene.views]
    threads, read = [], scene_data.read_picture
    monkeypatch.setattr(
        scene_data, "read_picture", lambda path: threads.append(threading.current_thread()) or read(path)
    )
    store = PhotoStore(scene, CPU)
    store.expect(scene.views[1:2])
    for index, view in enumerate(scene.views):
        photo, mask = store[view]
        assert torch.equal(photo, expected[index])
        assert (mask is None) == (index > 0)
    main = [thread is threading.main_thread() for thread in threads]
    assert sorted(main) == [False, True, True, True] and not store.coming


def test_only_what_comes_next_is_kept_ready(scene: Scene) -> None:
    store = PhotoStore(scene, CPU)
    store.expect(scene.views[:2])
    store.expect(scene.views[1:3])
    assert list(store.coming) == [scene.views[1].name, scene.views[2].name]
    roomy = replace(scene, memory_budget=1 << 30)
    roomy.photo(roomy.views[0])
    store = PhotoStore(roomy, CPU)
    store.expect(roomy.views[:2])
    assert list(store.coming) == [roomy.views[1].name], "the first is at hand"


def test_a_photo_that_is_gone_is_told_where_it_is_asked_for(scene: Scene) -> None:
    store = PhotoStore(scene, CPU)
    scene.views[2].image_path.unlink()
    store.expect(scene.views[2:3])
    with pytest.raises(InputError, match="is gone: run the command again"):
        store[scene.views[2]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_becomes_the_float_that_it_was(tmp_path: Path, dtype: type) -> None:
    """As a device that keeps 8 bits divides, and as files of pixels were read before there was a cache."""
    most = np.iinfo(dtype).max
    values = np.arange(most + 1, dtype=dtype)
    before = values.astype(np.float32) / np.float32(most)
    assert np.array_equal(to_float(values), before)
    if dtype == np.uint8:
        assert np.array_equal((torch.from_numpy(values).float() / torch.tensor(255.0)).numpy(), before)
