"""Ranks that train one scene: they find what one process finds with the same batch, and end together."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from ranks import Ranks
from test_cli import ONE_THREAD, REPOSITORY
from tiny_run import TEST_EVERY, tiny_scene

from cocogs.cli import main
from cocogs.config import Config, preset
from cocogs.distributed import Ranks as Alone
from cocogs.errors import InputError
from cocogs.run import DataConfig, read_checkpoint, write_config

BATCH, PHOTOS = 4, 22  # the last step has two photos


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def settings(photos: int = PHOTOS, batch: int = BATCH) -> Config:
    """Few steps, because rounding grows in each: with an edit, and the networks of `full` in the last two."""
    base = preset("full")
    strategy = replace(base.strategy, extra_points=50, max_gaussians=300, every=12, gradient=1e-4)
    return replace(base, optim=replace(base.optim, iterations=photos, batch=batch), strategy=strategy)


def prepared(root: Path, out: Path, config: Config) -> list[object]:
    """A run folder with settings, and the command that trains there."""
    write_config(out, config, DataConfig(str(tiny_scene(root)), test_every=TEST_EVERY))
    return ["train", tiny_scene(root), "--out", out, "--resume"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of one process."""
    out = tmp_path_factory.mktemp("alone")
    assert main([str(word) for word in prepared(tmp_path_factory.getbasetemp(), out, settings())]) == 0
    return read_checkpoint(out)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Up to rounding in another order. Where a gradient is 0 but for rounding (the turn of a round splat, a
    bias before a norm), Adam makes steps of it: quaternions, and what is split by them, are not compared."""
    for name in ("order", "random"):
        assert torch.equal(found[name], expected[name])
    assert found["step"] == expected["step"]
    close = {"gaussians.opacities": 1e-3, "gaussians.scales": 1e-3, "gaussians.sh0": 1e-4}
    close |= {"photometric.exposure.log_gains": 1e-5, "lens.focus.vergence": 1e-5}
    for name, tolerance in close.items():
        one, other = found["model"][name], expected["model"][name]
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance, name
    # A splat at the edge of what counts as seen may fall to either side.
    seen = found["densification"]["seen"] - expected["densification"]["seen"]
    assert seen.abs().max() <= 1 and seen.abs().sum() <= 2
    means = (found["model"]["gaussians.means"] - expected["model"]["gaussians.means"]).abs()
    assert means.median() < 1e-3


@pytest.mark.thorough
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_find_what_one_process_finds(
    count: int, alone: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    arguments = prepared(root, tmp_path / "run", settings())
    codes, outputs, errors = Ranks(count, arguments, tmp_path).start().end()
    assert codes == [0] * count, errors
    assert f"; {count} processes on cpu" in outputs[0] and "Done in" in outputs[0]
    assert outputs[1:] == [""] * (count - 1) and "".join(errors) == ""
    assert_same(read_checkpoint(tmp_path / "run"), alone)


@pytest.mark.thorough
def test_a_stopped_run_goes_on_with_other_ranks(alone: dict[str, Any], root: Path, tmp_path: Path) -> None:
    """SIGTERM reaches one rank only; all stop after the same step, and rank 0 saves. Then one, then four."""
    out = tmp_path / "run"
    arguments = prepared(root, out, settings())
    codes, outputs, errors = Ranks(2, arguments, tmp_path, ranks.stop_second).start().end()
    assert codes == [130, 130] and "Stopped and saved at step 16" in outputs[0] and "".join(errors) == ""
    assert read_checkpoint(out)["step"] == 16
    codes, _, errors = Ranks(4, arguments, tmp_path).start().end()
    assert codes == [0] * 4, errors
    assert_same(read_checkpoint(out), alone)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("setup", "lost", "survivor"),
    [
        (ranks.kill_second, 1, 0),
        (ranks.kill_first, 0, 1),
        (ranks.kill_first_early, 0, 1),
        (ranks.freeze_second, 1, 0),
    ],
)
def test_a_lost_rank_ends_all_with_one_sentence(
    setup: ranks.Setup, lost: int, survivor: int, root: Path, tmp_path: Path
) -> None:
    arguments = prepared(root, tmp_path / "run", settings(100_000))
    codes, _, errors = Ranks(2, arguments, tmp_path, setup).start().end()
    assert codes[lost] == -9 and codes[survivor] == 2
    assert re.fullmatch(
        rf"cocogs: error: Rank {lost} on \S+ ended or does not answer any more.* with --resume\.\n",
        errors[survivor],
    )


@pytest.mark.thorough
@pytest.mark.parametrize("machines", [1, 2])
def test_an_error_is_told_once_on_each_machine(machines: int, root: Path, tmp_path: Path) -> None:
    arguments = prepared(root, tmp_path / "run", settings(100_000))
    codes, _, errors = Ranks(4, arguments, tmp_path, ranks.fail_second, machines).start().end()
    assert codes == [2] * 4
    sentence = "photo.png is damaged: --downscale it.\n"
    assert errors[:2] == ["", f"cocogs: error: {sentence}"] and errors[3] == ""
    if machines == 1:
        assert errors[2] == ""
    else:
        assert re.fullmatch(rf"cocogs: error: Rank 1 on \S+ ended: {sentence}", errors[2])


def test_what_all_ranks_refuse_is_told_once(root: Path, tmp_path: Path) -> None:
    arguments = ["train", tiny_scene(root), "--out", tmp_path / "run", "--batch", 3]
    codes, _, errors = Ranks(2, arguments, tmp_path).start().end()
    assert codes == [2, 2] and errors[1] == ""
    assert errors[0].startswith(
        "cocogs: error: 2 processes cannot share a --batch of 3 photos evenly: give a"
    )


@pytest.mark.thorough
def test_ranks_that_drift_apart_are_told(root: Path, tmp_path: Path) -> None:
    arguments = prepared(root, tmp_path / "run", settings(100_000))
    codes, _, errors = Ranks(2, arguments, tmp_path, ranks.differ).start().end()
    assert codes == [2, 2] and errors[1] == ""
    assert "The ranks no longer hold the same state" in errors[0]


@pytest.mark.slow
def test_torchrun(root: Path, tmp_path: Path) -> None:
    """As a user starts it: a photo for every rank, if nothing is said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "cocogs", "train", str(tiny_scene(root)), "--out", str(tmp_path), "--iterations", "20"]
    done = subprocess.run(command, cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 processes on cpu" in done.stdout and done.stdout.count("Done in") == 1
    assert '"batch": 2' in (tmp_path / "config.json").read_text()
    assert read_checkpoint(tmp_path)["step"] == 20


def test_one_process_alone() -> None:
    ranks = Alone()
    numbers = torch.ones(3)
    ranks.sum_([numbers])
    ranks.check_batch(3)
    assert (
        numbers.tolist() == [1, 1, 1]
        and ranks.own([5, 6]) == [5, 6]
        and ranks.any(True)
        and not ranks.any(False)
    )


def test_a_batch_is_shared_evenly() -> None:
    class Third(Alone):
        rank, count = 2, 3

    assert Third().own([10, 11, 12, 13, 14, 15]) == [12, 15] and Third().own([10, 11]) == []
    Third().check_batch(6)
    with pytest.raises(InputError, match="3 processes cannot share a `batch` of 1 photo evenly"):
        Third().check_batch(1)
