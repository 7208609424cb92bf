"""The commands from outside: exit codes, what they print, what they leave, and being interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from tiny_run import SMALL, tiny_run, tiny_scene

import cocogs
from cocogs.checkpoint import read_checkpoint
from cocogs.cli import main
from cocogs.cli.train import Part, Train
from cocogs.config import (
    DEFAULT_PRESET,
    PRESETS,
    QUALITIES,
    SEEN_AT_LEAST,
    Ablation,
    Config,
    DataConfig,
    preset,
    with_quality,
)
from cocogs.io.ply import read_ply
from cocogs.run import load_run, write_config

REPOSITORY = Path(cocogs.__file__).parents[1]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    model = read_checkpoint(folder)["model"]
    return {name: value for name, value in model.items() if isinstance(value, torch.Tensor)}


def same_bits(a: Path, b: Path) -> bool:
    first, second = model_of(a), model_of(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_help_needs_no_torch() -> None:
    check = "import sys; from cocogs import cli; assert 'torch' not in sys.modules, 'torch is imported'"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("command", [[], ["train"], ["eval"], ["render"], ["export"], ["view"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    assert "usage: cocogs" in capsys.readouterr().out


def test_help_names_every_preset_and_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert f"(default: {DEFAULT_PRESET})" in text
    description = text[text.index("--preset NAME") : text.index("--iterations N")]
    assert all(name in description for name in PRESETS)


def test_parts_to_leave_out_are_the_models() -> None:
    assert set(get_args(Part)) == set(Ablation.__dataclass_fields__)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cocogs {cocogs.__version__}\n"
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.*)"$', pyproject, re.MULTILINE)[1] == cocogs.__version__  # type: ignore[index]


def test_help_tells_the_numbers_of_every_quality(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    millions = {1_000_000: "a million", 3_000_000: "three million"}
    for name, quality in QUALITIES.items():
        splats = millions.get(quality.max_gaussians, f"{quality.max_gaussians:,}")
        assert f"{name} {quality.longer_side} px, {quality.iterations:,}, {splats}" in words


def test_usage_error_exits_with_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["train", "somewhere"])
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["render", "run", "--out", "", "--focus", "3"], "--out"),
        (["render", "run", "--out", "o", "--views="], "--views"),
        (["export", "run", "a.ply", "--colmap", " "], "--colmap"),
        (["export", "", "a.ply"], "an argument"),
    ],
)
def test_an_empty_value_is_none(capsys: pytest.CaptureFixture[str], arguments: list[str], place: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert f"cocogs: error: The value of {place} is empty: " in capsys.readouterr().err


def test_a_run_and_all_that_reads_it(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", str(tiny_scene(root)), "--out", str(out), "--preset", "lens", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "6 photos, 2 kept for testing" in printed
    for advice in ("cocogs eval", "cocogs render", "cocogs export", "tensorboard --logdir"):
        assert f"{advice} {out}" in printed
    assert {"config.json", "checkpoint.pt", "lens.json", "tensorboard"} <= {p.name for p in out.iterdir()}
    assert main(["eval", str(out)]) == 0
    assert main(["render", str(out), "--out", str(tmp_path / "pictures"), "--focus", "4"]) == 0
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["view_0.png", "view_4.png"]
    assert main(["export", str(out), str(tmp_path / "scene.ply")]) == 0
    gaussians = load_run(out).model.gaussians
    assert torch.equal(read_ply(tmp_path / "scene.ply").quats, gaussians.quats)


def test_without_test_views_it_does_not_advise_to_evaluate(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "3dgs", "--iterations", "2", "--max-gaussians", "100"]
    assert main(["train", str(tiny_scene(root)), "--out", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert "cocogs eval" not in printed
    assert "--views train" in printed


def test_options_reach_the_settings(root: Path, tmp_path: Path) -> None:
    options = "--preset paper --iterations 4 --max-gaussians 90 --seed 5 --downscale 2 --per-photo-aperture"
    ablate = ["--ablate", "beta", "cnn"]
    assert main(["train", str(tiny_scene(root)), "--out", str(tmp_path), *options.split(), *ablate]) == 0
    run = load_run(tmp_path)
    assert (run.config.preset, run.config.seed, run.step) == ("paper", 5, 4)
    assert run.config.strategy.max_gaussians == 90 == len(run.model.gaussians)
    assert run.data.downscale == 2
    assert (run.scene.views[0].camera.width, run.scene.views[0].camera.height) == (24, 18)
    assert run.config.model.ablation == Ablation(beta=True, cnn=True)
    assert len(run.model.lens.aperture.log_K) == 8


def test_quality_sets_size_iterations_and_splats(root: Path, tmp_path: Path) -> None:
    data = tiny_scene(root)
    config, source = Train(data, tmp_path, quality="draft").settings()
    draft = QUALITIES["draft"]
    assert (config.optim.iterations, config.strategy.max_gaussians) == (draft.iterations, draft.max_gaussians)
    assert config.optim.seen_at_least == SEEN_AT_LEAST and source.longer_side == draft.longer_side
    config, _ = Train(data, tmp_path, quality="high", iterations=70, max_gaussians=90).settings()
    assert (config.optim.iterations, config.optim.seen_at_least) == (70, 0)
    assert config.strategy.max_gaussians == 90


@pytest.mark.thorough
def test_same_seed_same_bits(root: Path, tmp_path: Path) -> None:
    train = ["train", str(tiny_scene(root)), "--preset", "lens", *SMALL, "--out"]
    assert main([*train, str(tmp_path / "again")]) == 0
    assert main([*train, str(tmp_path / "other"), "--seed", "1"]) == 0
    assert same_bits(tmp_path / "again", tiny_run(root, "lens"))
    assert not same_bits(tmp_path / "other", tmp_path / "again")


@pytest.mark.thorough
def test_resuming_a_finished_run_changes_nothing(root: Path, tmp_path: Path) -> None:
    train = ["train", str(tiny_scene(root)), "--preset", "lens", *SMALL, "--out", str(tmp_path)]
    assert main(train) == 0
    assert main([*train, "--resume"]) == 0
    assert same_bits(tmp_path, tiny_run(root, "lens"))


@pytest.mark.thorough
def test_the_same_command_with_resume_goes_on(root: Path, tmp_path: Path) -> None:
    train = ["train", str(tiny_scene(root)), "--preset", "lens", "--quality", "draft", *SMALL]
    train += ["--out", str(tmp_path)]
    assert main(train) == 0
    assert main([*train, "--resume"]) == 0
    assert main([*train, "--resume", "--seed", "7"]) == 2


@pytest.mark.thorough
def test_resume_before_the_first_checkpoint_starts_anew(root: Path, tmp_path: Path) -> None:
    train = ["train", str(tiny_scene(root)), "--preset", "lens", *SMALL, "--out", str(tmp_path)]
    assert main(train) == 0
    (tmp_path / "checkpoint.pt").unlink()
    assert main([*train, "--resume"]) == 0
    assert same_bits(tmp_path, tiny_run(root, "lens"))


class Training:
    """`cocogs train --resume` in a process of its own that saves every 20 steps."""

    def __init__(self, data: Path, out: Path) -> None:
        arguments = ["train", str(data), "--out", str(out), "--resume"]
        code = (
            "import sys, cocogs.train.trainer as t; t.CHECKPOINT_EVERY, t.CHECKPOINT_SECONDS = 20, 0; "
            f"from cocogs.cli import main; sys.exit(main({arguments!r}))"
        )
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=ONE_THREAD, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 120
        while not (self.out / "checkpoint.pt").exists() or read_checkpoint(self.out)["step"] < step:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


def growing(iterations: int) -> Config:
    """A run that starts with few Gaussians and adds many."""
    base = preset("full")
    strategy = replace(base.strategy, extra_points=50, max_gaussians=300, every=20, gradient=1e-6)
    return replace(base, optim=replace(base.optim, iterations=iterations), strategy=strategy)


@pytest.mark.thorough
def test_interrupted_and_killed_runs_end_in_the_same_bits(root: Path, tmp_path: Path) -> None:
    """Ctrl-C, resume, kill -9, resume: as one run without a break, across splits and added sets."""
    data, broken, whole = tiny_scene(root), tmp_path / "broken", tmp_path / "whole"
    for folder in (broken, whole):
        write_config(folder, growing(iterations=200), DataConfig(str(data)))

    training = Training(data, broken)
    training.wait_for_step(20)
    code, output, errors = training.end(signal.SIGINT)
    assert code == 130, errors
    assert f"To continue: cocogs train {data} --out {broken} --resume" in output
    interrupted_at = read_checkpoint(broken)["step"]
    assert 20 <= interrupted_at < 200

    training = Training(data, broken)
    training.wait_for_step(max(80, interrupted_at + 20))
    assert training.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert read_checkpoint(broken)["step"] < 200

    assert main(["train", str(data), "--out", str(broken), "--resume"]) == 0
    assert main(["train", str(data), "--out", str(whole), "--resume"]) == 0
    assert same_bits(broken, whole)
    assert len(model_of(whole)["gaussians.means"]) > 200
    assert (broken / "lens.json").read_bytes() == (whole / "lens.json").read_bytes()


def test_interrupt_before_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cocogs.run.open_data", interrupted)
    assert main(["train", str(tiny_scene(root)), "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "cocogs: stopped.\n"


def test_a_bug_keeps_its_traceback(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("our fault")

    monkeypatch.setattr("cocogs.run.open_data", broken)
    with pytest.raises(RuntimeError, match="our fault"):
        main(["train", str(tiny_scene(root)), "--out", str(tmp_path)])


def test_default_preset(tmp_path: Path) -> None:
    config, _ = Train(data=tmp_path, out=tmp_path, device="cpu").settings()
    assert config == with_quality(PRESETS[DEFAULT_PRESET], QUALITIES["standard"])
