"""What a user can get wrong about runs and options: one sentence, exit code 2, nothing lost.

Photos and cameras that cannot be used are in test_scene.py and in the tests of their readers.
"""

import errno
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import SMALL, tiny_run, tiny_scene, write_tiny_scene

from cocogs.cli import main
from cocogs.io.lock import alone_in
from cocogs.run import load_run
from cocogs.train.trainer import Trainer

Capture = pytest.CaptureFixture[str]
TINY = ["--iterations", "4", "--max-gaussians", "100"]


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def data(root: Path) -> Path:
    return tiny_scene(root)


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A trained run that may be spoiled."""
    return Path(shutil.copytree(tiny_run(root, "lens"), tmp_path / "run"))


def refused(capsys: Capture, *arguments: object) -> str:
    """The one sentence with which a command line is refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    return one_sentence(capsys.readouterr().err)


def one_sentence(errors: str) -> str:
    assert errors.startswith("cocogs: error: ")
    assert errors.endswith(".\n")
    assert errors.count("\n") == 1
    return errors.removeprefix("cocogs: error: ").strip()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "best"], "There is no preset 'best': choose one of 3dgs, lens, paper, full."),
        (["--iterations", "0"], "--iterations must be a whole number from 1 to 2147483647, not 0."),
        (["--iterations", "-5"], "--iterations must be a whole number from 1 to 2147483647, not -5."),
        (["--max-gaussians", "-1"], "--max-gaussians must be a whole number from 1 to 2147483647, not -1."),
        (["--downscale", "0"], "--downscale must be a whole number from 1 to 2147483647, not 0."),
        (["--downscale", "-2"], "--downscale must be a whole number from 1 to 2147483647, not -2."),
        (["--test-every", "1"], "--test-every must be a whole number from 2 to 2147483647, not 1."),
        (["--seed", "9" * 20], f"--seed must be a whole number from 0 to 2147483647, not {'9' * 20}."),
        (["--seed", "-1"], "--seed must be a whole number from 0 to 2147483647, not -1."),
        (
            ["--test", "a.png", "--test-every", "4"],
            "--test and --test-every both choose the photos for testing",
        ),
        (["--preset", "lens", "--ablate", "cnn"], "--ablate leaves out parts of preset paper"),
        (["--resume"], "is not a run: it has no config.json"),
    ],
)
def test_options_out_of_range(
    data: Path, tmp_path: Path, capsys: Capture, options: list[str], message: str
) -> None:
    assert message in refused(capsys, "train", data, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_absent_data(tmp_path: Path, capsys: Capture) -> None:
    sentence = refused(capsys, "train", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert sentence == f"{tmp_path / 'nowhere'} does not exist: give the folder that holds the photos."
    assert not (tmp_path / "out").exists()


def test_training_over_a_trained_run(data: Path, run: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    sentence = refused(capsys, "train", data, "--out", run, "--preset", "3dgs")
    assert "already holds a trained scene: continue it with --resume" in sentence
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_out_folder_of_another_program(data: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "config.json").write_text('{"theirs": 1}')
    assert "config.json is not a file of cocogs" in refused(capsys, "train", data, "--out", tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"theirs": 1}'


@pytest.mark.parametrize(
    ("options", "was"),
    [("--iterations 60", "with --iterations 50"), ("--preset full", "with --preset lens"),
     ("--seed 1", "with --seed 0"), ("--downscale 2", "without --downscale"),
     ("--test-every 3", "with --test-every 4"), ("--max-gaussians 9", "with --max-gaussians "),
     ("--per-photo-aperture", "without --per-photo-aperture")],
)  # fmt: skip
def test_resuming_with_other_options(data: Path, run: Path, capsys: Capture, options: str, was: str) -> None:
    sentence = refused(capsys, "train", data, "--out", run, "--resume", *options.split())
    assert f"was trained {was}" in sentence
    assert f"leave {options.split()[0]} out, or give another --out." in sentence


def test_resuming_with_the_same_options(data: Path, run: Path) -> None:
    assert main(["train", str(data), "--out", str(run), "--resume", "--preset", "lens", *SMALL]) == 0


def test_resuming_on_other_data(run: Path, tmp_path: Path, capsys: Capture) -> None:
    other = write_tiny_scene(tmp_path / "other", seed=1)
    assert f"was trained on {load_run(run).scene.source}" in refused(
        capsys, "train", other, "--out", run, "--resume"
    )


@pytest.mark.thorough
def test_photos_replaced_by_others(data: Path, tmp_path: Path, capsys: Capture) -> None:
    """The folder is the same, what is in it is not."""
    moving, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, moving)
    assert main(["train", str(moving), "--out", str(out), *TINY]) == 0
    shutil.rmtree(moving)
    write_tiny_scene(moving, views=7)
    resume = ["train", moving, "--out", out, "--resume"]
    for command in (resume, ["eval", out], ["render", out, "--out", out]):
        assert "was trained on other photos" in refused(capsys, *command)


@pytest.mark.parametrize("command", [["eval"], ["render", "--out", "pictures"], ["export", "scene.ply"]])
@pytest.mark.parametrize("kind", ["absent", "empty", "a photo folder"])
def test_folder_that_is_no_run(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    command: list[str], kind: str,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    folder = {"absent": tmp_path / "absent", "empty": tmp_path / "empty", "a photo folder": data}[kind]
    monkeypatch.chdir(tmp_path)
    sentence = refused(capsys, command[0], folder, *command[1:])
    assert str(folder) in sentence
    assert "cocogs train" in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_run_without_a_checkpoint(run: Path, capsys: Capture) -> None:
    (run / "checkpoint.pt").unlink()
    assert "checkpoint.pt does not exist" in refused(capsys, "eval", run)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_truncated_checkpoint(data: Path, run: Path, capsys: Capture, keep: float) -> None:
    checkpoint = run / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    resume = ["train", data, "--out", run, "--resume"]
    for command in (["eval", run], ["export", run, run / "a.ply"], resume):
        assert f"{checkpoint} is damaged" in refused(capsys, *command)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_checkpoint_with_other_bytes_in_it(data: Path, run: Path, capsys: Capture, place: float) -> None:
    """As a failing disk leaves it: torch reads it without a word."""
    checkpoint = run / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    checkpoint.write_bytes(content)
    for command in (["eval", run], ["train", data, "--out", run, "--resume"]):
        assert f"{checkpoint} is damaged" in refused(capsys, *command)
    assert checkpoint.read_bytes() == content


def test_checkpoint_whose_parts_do_not_fit(run: Path, capsys: Capture) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["model"]["gaussians.quats"] = state["model"]["gaussians.quats"][1:]
    torch.save(state, run / "checkpoint.pt")
    for command in (["eval", run], ["export", run, run / "scene.ply"]):
        assert "checkpoint.pt" in refused(capsys, *command)


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, {"step": 3, "model": {}, "fingerprint": "x"}])
def test_checkpoint_of_something_else(run: Path, capsys: Capture, content: Any) -> None:
    torch.save(content, run / "checkpoint.pt")
    for command in (["eval", run], ["export", run, run / "scene.ply"]):
        assert "checkpoint.pt" in refused(capsys, *command)


def test_checkpoint_with_code_in_it(run: Path, capsys: Capture) -> None:
    """Loading a stranger's checkpoint must not run what it holds."""
    torch.save({"step": os.system, "model": {}, "fingerprint": ""}, run / "checkpoint.pt")
    assert "is damaged" in refused(capsys, "eval", run)


@pytest.mark.parametrize("part", ["optimizers", "densification", "finest", "order", "random"])
def test_checkpoint_that_lacks_what_resuming_needs(data: Path, run: Path, capsys: Capture, part: str) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    del state[part]
    torch.save(state, run / "checkpoint.pt")
    assert "checkpoint.pt is damaged" in refused(capsys, "train", data, "--out", run, "--resume")


@pytest.mark.parametrize("change", [{"preset": "full"}, {"optim": {"iterations": 10**6}}])
def test_checkpoint_of_another_run(data: Path, run: Path, capsys: Capture, change: dict[str, Any]) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"config": state["config"] | change}, run / "checkpoint.pt")
    for command in (["train", data, "--out", run, "--resume"], ["eval", run], ["export", run, run / "a.ply"]):
        assert "checkpoint.pt does not fit" in refused(capsys, *command)


def test_checkpoint_with_what_is_no_number(data: Path, run: Path, capsys: Capture) -> None:
    """Also of a run that is done: nothing is trained, and nothing written over."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["model"]["lens.focus.vergence"][0] = float("nan")
    torch.save(state, run / "checkpoint.pt")
    before = (run / "lens.json").read_text()
    said = refused(capsys, "train", data, "--out", run, "--resume")
    assert "is damaged (lens.focus.vergence holds what is no number)" in said
    assert (run / "lens.json").read_text() == before


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("step", "x"), ("step", -5), ("step", float("nan")), ("step", True),
        ("config", None), ("config", ("optim", lambda optim: 3)), ("optimizers", None),
        ("densification", None), ("order", None), ("model", None),
        ("model", ("gaussians.means", lambda means: means.double())),
        ("model", ("gaussians.opacities", lambda opacities: opacities[:, None])),
        ("model", ("gaussians.shN", lambda shN: shN[:, :3])),
        ("model", ("gaussians.sh0", lambda sh0: sh0.tolist())),
    ],
)  # fmt: skip
def test_checkpoint_with_other_contents(
    data: Path, run: Path, capsys: Capture, part: str, value: Any
) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    if isinstance(value, tuple):
        name, change = value
        state[part][name] = change(state[part][name])
    else:
        state[part] = value
    torch.save(state, run / "checkpoint.pt")
    for command in (["export", run, run / "a.ply"], ["train", data, "--out", run, "--resume"]):
        assert "checkpoint.pt" in refused(capsys, *command)


def test_checkpoint_without_gaussians(run: Path, capsys: Capture) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    for name in ("means", "quats", "scales", "opacities", "sh0", "shN"):
        state["model"][f"gaussians.{name}"] = state["model"][f"gaussians.{name}"][:0]
    torch.save(state, run / "checkpoint.pt")
    for command in (["eval", run], ["export", run, run / "a.ply"]):
        assert "checkpoint.pt" in refused(capsys, *command)


@pytest.mark.parametrize("part", ["finest", "order", "gradient", "exp_avg"])
def test_checkpoint_whose_training_does_not_fit(data: Path, run: Path, capsys: Capture, part: str) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    parts = {"gradient": state["densification"], "exp_avg": state["optimizers"]["means"]["state"][0]}
    parts.get(part, state)[part] = torch.full((3,), 99)
    torch.save(state, run / "checkpoint.pt")
    assert "checkpoint.pt is damaged" in refused(capsys, "train", data, "--out", run, "--resume")


@pytest.mark.thorough
def test_checkpoint_of_another_model(root: Path, run: Path, capsys: Capture) -> None:
    shutil.copy(tiny_run(root, "paper") / "config.json", run / "config.json")
    assert "does not fit" in refused(capsys, "eval", run)


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, "[]", "{}", '{"preset": "lens", "data": {}}', '{"data": 3}']
)
def test_damaged_settings(data: Path, run: Path, capsys: Capture, content: str) -> None:
    (run / "config.json").write_text(content)
    assert "config.json cannot be read" in refused(capsys, "eval", run)
    assert "config.json cannot be read" in refused(capsys, "train", data, "--out", run, "--resume")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("data", "source", 3),
        ("data", "downscale", "2"),
        ("optim", "iterations", "100"),
        ("optim", "means", None),
        ("model", "lens", "thick"),
        ("model", "antialiased", 1),
        (None, "seed", None),
        (None, "optim", 3),
        # Numbers out of their range.
        ("data", "source", ""),
        ("data", "downscale", 0),
        ("data", "test_every", 1),
        ("model", "copies", 0),
        ("model", "copies", 10**9),
        ("optim", "iterations", -5),
        ("optim", "sh_interval", 0),
        ("optim", "sets_from", float("nan")),
        ("optim", "means", float("nan")),
        ("strategy", "every", 0),
        ("strategy", "min_opacity", -1),
        (None, "seed", 10**30),
        (None, "seed", 10**400),
        (None, "preset", "x"),
    ],
)
def test_settings_of_another_type_or_out_of_range(
    run: Path, capsys: Capture, part: str | None, key: str, value: object
) -> None:
    settings = json.loads((run / "config.json").read_text())
    (settings[part] if part else settings)[key] = value
    (run / "config.json").write_text(json.dumps(settings))
    assert "config.json cannot be read" in refused(capsys, "eval", run)


def test_photos_that_moved(run: Path, data: Path, tmp_path: Path, capsys: Capture) -> None:
    """Said where they are now, the run has them again; other photos are refused."""
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    settings = json.loads((run / "config.json").read_text())
    settings["data"]["source"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(settings))
    sentence = refused(capsys, "eval", run)
    assert f"is gone: put it back, or tell where it is now: cocogs train NEW --out {run} --resume" in sentence
    other = write_tiny_scene(tmp_path / "other", views=6)
    assert "was trained on other photos" in refused(capsys, "train", other, "--out", run, "--resume")
    assert main(["train", str(moved), "--out", str(run), "--resume"]) == 0
    assert main(["eval", str(run)]) == 0


def test_two_trainings_in_one_folder(data: Path, tmp_path: Path, capsys: Capture) -> None:
    with alone_in(tmp_path / "run"):
        sentence = refused(capsys, "train", data, "--out", tmp_path / "run", *TINY)
    assert sentence == (
        f"Another cocogs is at work in {tmp_path / 'run'}: wait until it ends, or give another --out."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_pictures_in_the_place_of_the_photos(root: Path, tmp_path: Path, capsys: Capture) -> None:
    photos = write_tiny_scene(tmp_path / "data") / "images"
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    out = tmp_path / "run"
    assert main(["train", str(photos.parent), "--out", str(out), "--preset", "lens", *TINY]) == 0
    for place in (photos, tmp_path / "data" / "." / "images"):
        sentence = refused(capsys, "render", out, "--views", "train", "--out", place)
        assert "would overwrite photos of" in sentence
    sparse = tmp_path / "data" / "sparse" / "0"
    sentence = refused(capsys, "export", out, tmp_path / "a.ply", "--colmap", sparse)
    assert "holds the cameras that" in sentence
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.parametrize("place", ["a file", "/proc/run", "/dev/null/run"])
def test_out_folder_that_cannot_be_made(data: Path, tmp_path: Path, capsys: Capture, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" if place == "a file" else Path(place)
    assert f"{out} cannot be written" in refused(capsys, "train", data, "--out", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_export_that_cannot_be_written(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "does not end in .ply" in refused(capsys, "export", run, tmp_path / "scene.obj")
    (tmp_path / "file").write_text("")
    sentence = refused(capsys, "export", run, tmp_path / "file/scene.ply")
    assert "/file cannot be written" in sentence


@pytest.mark.thorough
def test_disk_full_while_saving(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint does not fit: the first stays whole, and training goes on from it later.

    The system is told to let no file grow beyond 10 kB, so that it is torch who meets the error.
    """
    monkeypatch.setattr("cocogs.train.trainer.CHECKPOINT_EVERY", 10)
    monkeypatch.setattr("cocogs.train.trainer.CHECKPOINT_SECONDS", 0)
    out, save, limits = tmp_path / "run", Trainer.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_full_disk(trainer: Trainer) -> None:
        if trainer.step == 20:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            save(trainer)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    options = ["--preset", "lens", "--iterations", "30", "--max-gaussians", "100"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_on_a_full_disk)
        sentence = refused(capsys, "train", data, "--out", out, *options)
    assert f"{out / 'checkpoint.pt'} cannot be written (File too large)" in sentence
    assert load_run(out).step == 10
    assert not list(out.glob(".*"))
    assert main(["train", str(data), "--out", str(out), "--resume"]) == 0
    assert load_run(out).step == 30


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/mnt/a"), "/mnt/a cannot be read or written"),
        (OSError(errno.ENOSPC, "No space left on device"), "out cannot be read or written (No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/mnt/a.jpg"), "/mnt/a.jpg cannot be read"),
        (MemoryError(), "There is not enough memory. Give a larger --downscale"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
    ],
)
def test_the_systems_errors_in_the_middle_of_training(
    data: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    error: Exception, message: str,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cocogs.train.trainer.Trainer.step_on", fail)
    assert message in refused(capsys, "train", data, "--out", tmp_path / "out", "--preset", "3dgs", *TINY)


def test_eval_without_test_views(data: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["train", str(data), "--out", str(tmp_path), "--preset", "3dgs", *TINY]) == 0
    assert "hold out sharp photos with --test, or every 8th with --test-every 8" in refused(
        capsys, "eval", tmp_path
    )
    sentence = refused(capsys, "render", tmp_path, "--out", tmp_path / "pictures")
    assert "no test views: render with --views train" in sentence


def test_render_options(run: Path, tmp_path: Path, capsys: Capture) -> None:
    render = ["render", run, "--out", tmp_path / "pictures"]
    assert "--views must be one of test, train, all, not some" in refused(capsys, *render, "--views", "some")
    assert "Only training photos" in refused(capsys, *render, "--defocused")
    assert "--focus must be a number above 0, not -2" in refused(capsys, *render, "--focus", "-2")
    assert "--aperture must be a factor of 0 (all sharp) or more, such as 1.5x, not -1" in refused(
        capsys, *render, "--focus", "2", "--aperture", "-1"
    )
    assert not (tmp_path / "pictures").exists()


def test_lpips_without_weights(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "alexnet-owt-7be5be79.pth does not exist" in refused(
        capsys, "eval", run, "--lpips-weights", tmp_path
    )
