"""The progress line, the curves, and that watching changes nothing."""

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import mask_as_prepared
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import HEIGHT, WIDTH, tiny_run

from cocogs.run import Run, load_run
from cocogs.train.memory import peak_memory
from cocogs.train.monitor import Monitor, picture_psnr, psnr, some_of, strip


@pytest.fixture(scope="module", params=["lens", "paper", "full", "3dgs"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), request.param))


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def report(monitor: Monitor, first: int, last: int) -> None:
    for step in range(first, last + 1):
        monitor.step(step, torch.tensor(1 / step), torch.tensor(10 ** (-step / 1000)), 100 + step)


def test_plain_lines_every_tenth(tmp_path: Path) -> None:
    lines: list[str] = []
    with Monitor(tmp_path, 0, 1000, lines.append) as monitor:
        report(monitor, 1, 1000)
    assert len(lines) == 10
    assert lines[0].startswith("Training: 10 %  ") and "step 100  " in lines[0]
    # The mean of the last hundred steps' PSNR, which is step / 100 dB.
    assert "9.51 dB" in lines[-1]
    assert "1,100 Gaussians" in lines[-1]
    assert "0:00 left" in lines[-1]


def test_few_steps_make_few_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    with Monitor(tmp_path, 0, 3, lines.append) as monitor:
        report(monitor, 1, 3)
    assert len(lines) == 1
    assert lines[0].startswith("Training: 100 %  ") and "step 3  " in lines[0]


def test_curves(tmp_path: Path) -> None:
    with Monitor(tmp_path, 0, 100, print) as monitor:
        report(monitor, 1, 100)
    loss = curves(tmp_path).Scalars("train/loss")
    assert [event.step for event in loss] == [20, 40, 60, 80, 100]
    assert loss[1].value == pytest.approx(1 / 40)
    assert curves(tmp_path).Scalars("train/gaussians")[-1].value == 200


def test_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with Monitor(tmp_path, 0, 200, print) as monitor:
        report(monitor, 1, 120)  # killed at 120, its checkpoint from 60
    with Monitor(tmp_path, 60, 200, print) as monitor:
        report(monitor, 61, 200)
    steps = [event.step for event in curves(tmp_path).Scalars("train/loss")]
    assert steps == list(range(20, 201, 20))


def test_training_goes_on_without_curves(tmp_path: Path) -> None:
    """The system lets no file grow beyond 2 kB; then a file stands where the folder should be."""
    lines: list[str] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Monitor(tmp_path / "full", 0, 1000, lines.append) as monitor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            report(monitor, 1, 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (tmp_path / "file").write_text("")
    with Monitor(tmp_path / "file", 0, 20, lines.append) as monitor:
        report(monitor, 1, 20)
    refused = [line for line in lines if line.startswith("No more curves: ")]
    assert len(refused) == 2
    assert "(File too large)" in refused[0]
    assert "(Not a directory)" in refused[1]
    assert len(lines) == 10 + 1 + 2
    assert curves(tmp_path / "full").Scalars("train/loss")


def test_evaluation_leaves_no_trace(run: Run, tmp_path: Path) -> None:
    values = [*run.model.parameters(), *run.model.buffers()]
    random, before = torch.get_rng_state(), [value.clone() for value in values]
    with Monitor(tmp_path, 0, 100, print) as monitor:
        monitor.evaluate(100, run.model, run.scene)
        monitor.show(100, run.model, run.scene)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(map(torch.equal, values, before))
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_evaluation_draws_curves_and_strips(run: Run, tmp_path: Path) -> None:
    with Monitor(tmp_path, 0, 100, print) as monitor:
        monitor.evaluate(100, run.model, run.scene)
        monitor.show(100, run.model, run.scene)
    tags = curves(tmp_path).Tags()
    views = run.scene.train_views
    is_paper = run.config.model.lens == "paper"  # which knows no softness
    per_photo = ("focus_distance",) if is_paper else ("focus_distance", "softness_px")
    lens = {"K", *(f"{name}/{view.name}" for view in views for name in per_photo)}
    gains = {"corner", *(f"gain/{view.name}" for view in views)}
    is_pinhole = run.config.model.lens == "pinhole"
    expected = (set() if is_pinhole else lens) | (gains if run.config.model.photometric else set())
    assert set(tags["scalars"]) == {"test/psnr"} | expected
    assert len(tags["images"]) == 2
    with torch.no_grad():
        pictures = strip(run.model, run.scene, 0)
    assert pictures.shape == (3, HEIGHT, WIDTH * (3 if is_pinhole else 4))
    assert torch.equal(pictures[..., :WIDTH], run.scene.photo(views[0]))
    assert 0 <= pictures.min() <= pictures.max() <= 1


def test_of_many_photos_some_are_shown() -> None:
    assert some_of(range(3), 20) == [0, 1, 2] and some_of([], 20) == []
    assert some_of("abcdef", 2) == ["a", "d"] and len(some_of(range(2000), 100)) == 100


def test_the_curve_of_the_test_views_leaves_out_what_is_masked(run: Run, tmp_path: Path) -> None:
    view = run.scene.test_views[0]
    Image.fromarray((np.arange(WIDTH) < WIDTH // 2).astype(np.uint8)[None].repeat(HEIGHT, 0) * 255).save(
        tmp_path / "mask.png"
    )
    masked = replace(view, mask_path=mask_as_prepared(tmp_path / "mask.png"))
    scene = replace(run.scene, views=[*run.scene.train_views, masked])
    with Monitor(tmp_path, 0, 100, print) as monitor:
        monitor.evaluate(100, run.model, scene)
    with torch.no_grad():
        render = run.model.sharp_photo(view).clamp(0, 1)
    expected = picture_psnr(render, run.scene.photo(view), scene.mask(masked))
    assert expected != pytest.approx(picture_psnr(render, run.scene.photo(view)), abs=0.01)
    [point] = curves(tmp_path).Scalars("test/psnr")
    assert point.value == pytest.approx(expected, abs=1e-3)


def test_small_helpers() -> None:
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(0) == 100
    assert 10 * 2**20 < peak_memory() < 2**40


def test_steps_of_several_photos_are_read_as_often(tmp_path: Path) -> None:
    with Monitor(tmp_path, 0, 100, print) as monitor:
        for step in [*range(8, 97, 8), 100]:
            monitor.step(step, torch.tensor(1.0), torch.tensor(0.1), 100)
    steps = [event.step for event in curves(tmp_path).Scalars("train/loss")]
    assert steps == [24, 40, 64, 80, 100]
