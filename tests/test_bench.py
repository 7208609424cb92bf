"""`cocogs bench`: what it runs, what it keeps, how it tabulates, and what becomes of failures."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_run import (
    APERTURE,
    FOCUS_DISTANCES,
    FX,
    HEIGHT,
    TEST_EVERY,
    VIEWS,
    WIDTH,
    tiny_camera,
    write_tiny_scene,
)

from cocogs.bench import runs
from cocogs.bench.outcome import ALL_SCENES, COLUMNS, Outcome, Result, collect
from cocogs.bench.processes import Processes, Usage, reason
from cocogs.bench.protocols import PROTOCOLS, Published
from cocogs.bench.runs import BenchSettings, Costs, Job
from cocogs.bench.suites import BenchScene, Suite
from cocogs.bench.table import heads_and_cells, to_markdown
from cocogs.checkpoint import read_checkpoint, write_checkpoint
from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.lock import alone_in
from cocogs.render.files import RECORD


@pytest.fixture(scope="module")
def suite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny truth scenes, with sharp twins that are as defocused as the photos. Do not change it."""
    root = tmp_path_factory.mktemp("suite")
    for seed, name in enumerate(("one", "two")):
        write_tiny_truth(root / name, seed)
    return root


def write_tiny_truth(folder: Path, seed: int) -> None:
    write_tiny_scene(folder, seed)
    tests = [i for i in range(VIEWS) if i % TEST_EVERY == 0]
    frames = [
        {
            "name": f"view_{i}.png",
            "test": i in tests,
            "focus_distance": None if i in tests else FOCUS_DISTANCES[i % 3],
            "w2c": tiny_camera(i).cam_from_world.tolist(),
        }
        for i in range(VIEWS)
    ]
    facts = {"width": WIDTH, "height": HEIGHT, "fx": FX, "aperture_diameter": APERTURE / FX, "K": APERTURE}
    (folder / "sharp").mkdir()
    for i in range(VIEWS):
        if i not in tests:
            os.symlink(folder / "images" / f"view_{i}.png", folder / "sharp" / f"view_{i}.png")
    (folder / "refocus").mkdir()
    os.symlink(folder / "images" / "view_0.png", folder / "refocus" / "view_0_f3.png")
    entry = {"name": "view_0_f3.png", "view": "view_0.png", "focus_distance": 3.0, "aperture_scale": 0.0}
    (folder / "truth.json").write_text(json.dumps({**facts, "frames": frames, "refocus": [entry]}))


class AtOnce:
    """Does at once what a pool of threads would do."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def submit(self, work: Callable[[Job], None], job: Job) -> Future:
        future: Future = Future()
        future.set_result(work(job))
        return future


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Commands run without a process of their own, which saves seconds each; gives the list of them."""
    commands: list[list[str]] = []

    def run(_: Processes, arguments: list[str], folder: Path, environment: dict[str, str]) -> Usage:
        commands.append(arguments)
        capsys.readouterr()
        code = main(arguments)
        printed = capsys.readouterr()
        return Usage(printed.out, printed.err.strip() if code else None, 2.0, 1.0, 1 << 30)

    monkeypatch.setattr(Processes, "run", run)
    monkeypatch.setattr(
        runs, "ThreadPoolExecutor", AtOnce
    )  # training handles Ctrl-C, in the main thread only
    return commands


QUICK = ("--iterations", "20", "--max-gaussians", "300")


def bench(suite: Path, out: Path, *options: str) -> int:
    return main(["bench", str(suite), "--out", str(out), *QUICK, *options])


@pytest.mark.thorough
def test_whole_benchmark(suite_folder: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    """Floor, ceiling and a lens on two scenes: table, page and files; a second call runs nothing."""
    out = tmp_path / "out"
    methods = ("--methods", "3dgs,sharp,lens")
    assert bench(suite_folder, out, *methods) == 0
    trained = [command for command in in_process if command[0] == "train"]
    assert len(trained) == 6
    assert {command[1] for command in trained if "sharp" in command[3]} == {
        str(out / "data" / "one-sharp"),
        str(out / "data" / "two-sharp"),
    }
    table = json.loads((out / "table.json").read_text())
    assert [(row["scene"], row["method"]) for row in table["rows"]] == [
        (scene, method) for scene in (ALL_SCENES, "one", "two") for method in ("3dgs", "sharp", "lens")
    ]
    whole = {row["method"]: {c: f["mean"] for c, f in row["figures"].items()} for row in table["rows"][:3]}
    assert whole["lens"]["aperture_error"] > 0 and whole["lens"]["focus_error"] > 0
    assert whole["3dgs"]["aperture_error"] is None
    assert whole["lens"]["refocus_psnr"] > 10 and whole["sharp"]["refocus_psnr"] > 10
    assert (whole["lens"]["cpu_seconds"], whole["lens"]["peak_gib"]) == (2.0, 1.0)
    assert whole["lens"]["psnr"] == pytest.approx(
        np.mean([run["psnr"] for run in table["runs"] if run["method"] == "lens"])
    )
    page = (out / "report.html").read_text()
    assert page.count("<h2>") == 3 and len(re.findall("<figure>", page)) == 2 * 2 * (4 + 3 + 4)
    assert not re.search(r'src="(?!data:)', page)
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert len(rows) == 9 and float(rows[2]["psnr_mean"]) == pytest.approx(whole["lens"]["psnr"])

    in_process.clear()
    assert bench(suite_folder, out, *methods) == 0
    assert in_process == []
    assert json.loads((out / "table.json").read_text()) == table


@pytest.mark.thorough
def test_failing_run_stops_no_other(suite_folder: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    """A checkpoint that is garbage fails one scene; once it is gone, only that scene is run again."""
    out = tmp_path / "out"
    broken = out / "runs" / "one" / "3dgs" / "seed0" / "checkpoint.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"garbage")
    assert bench(suite_folder, out, "--methods", "3dgs") == 1
    table = (out / "table.md").read_text()
    assert "1 of 2 scenes" in table and "- one, 3dgs, seed 0: " in table and "is not a run" in table
    assert "Failed" in (out / "report.html").read_text()
    broken.unlink()
    in_process.clear()
    assert bench(suite_folder, out, "--methods", "3dgs") == 0
    assert [command[0] for command in in_process] == ["train", "eval", "render"]
    assert "Failed" not in (out / "table.md").read_text()


def test_interrupted_run_is_resumed(suite_folder: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    """Without its end, a training goes on; what it took before is unknown if it was killed."""
    out = tmp_path / "out"
    options = ("--methods", "3dgs", "--scenes", "one")
    assert bench(suite_folder, out, *options) == 0
    folder = out / "runs" / "one" / "3dgs" / "seed0"
    Costs(folder, running=True).write()
    (folder / "eval.json").unlink()
    in_process.clear()
    assert bench(suite_folder, out, *options) == 0
    assert in_process[0] == ["train", str(suite_folder / "one"), "--out", str(folder), "--resume"]
    (run,) = json.loads((out / "table.json").read_text())["runs"]
    assert run["cpu_seconds"] is None and run["peak_gib"] is None and run["psnr"] > 0


def test_half_done_pictures_are_finished(
    suite_folder: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    options = ("--methods", "3dgs", "--scenes", "one")
    assert bench(suite_folder, tmp_path, *options) == 0
    pictures = tmp_path / "runs" / "one" / "3dgs" / "seed0" / "pictures"
    (pictures / RECORD).write_text("{}")
    in_process.clear()
    assert bench(suite_folder, tmp_path, *options) == 0
    assert [command[0] for command in in_process] == ["render"] and not (pictures / RECORD).exists()


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_benchmark_leaves_no_process_and_goes_on(
    suite_folder: Path, tmp_path: Path, in_process: list[list[str]], number: signal.Signals
) -> None:
    """The signal reaches the benchmark alone; its training saves and ends before it does."""
    arguments = ["bench", str(suite_folder), "--out", str(tmp_path), "--methods", "3dgs"]
    arguments += ["--scenes", "one", "--iterations", "100000", "--max-gaussians", "300"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cocogs", *arguments], cwd=Path(__file__).parents[1], text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Who runs the tests in the background has them ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    folder = tmp_path / "runs" / "one" / "3dgs" / "seed0"
    try:
        wait_for(folder / "tensorboard")
        time.sleep(0.5)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "cocogs: stopped.\n") and "FAILED" not in output
    costs = Costs.read(folder)
    assert (costs.running, costs.finished, costs.known) == (False, False, True) and costs.cpu_seconds > 0
    state = read_checkpoint(folder)
    step = state["step"]
    assert 0 < step < 100_000

    config = json.loads((folder / "config.json").read_text())
    for settings in (config, state["config"]):
        settings["optim"]["iterations"] = step + 5  # else the rest would take its time
    (folder / "config.json").write_text(json.dumps(config))
    write_checkpoint(folder, state)
    assert main(arguments) == 0
    assert in_process[0][-1] == "--resume" and read_checkpoint(folder)["step"] == step + 5
    assert Costs.read(folder).cpu_seconds == pytest.approx(costs.cpu_seconds + 2.0)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def test_nothing_is_started_after_the_stop(tmp_path: Path) -> None:
    processes = Processes()
    processes.stop()
    with pytest.raises(InputError, match="start the benchmark again to continue"):
        processes.run(["--version"], tmp_path, dict(os.environ))
    with pytest.raises(InputError):
        Costs(tmp_path).train(["train"], processes, {})
    assert not Costs.read(tmp_path).running  # what was never started was not killed


@pytest.mark.thorough
def test_a_call_with_other_methods_keeps_the_table_whole(
    suite_folder: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    out = tmp_path / "out"
    assert bench(suite_folder, out, "--methods", "3dgs,sharp", "--scenes", "one") == 0
    assert bench(suite_folder, out, "--methods", "lens", "--scenes", "one") == 0
    table = json.loads((out / "table.json").read_text())
    assert [run["method"] for run in table["runs"]] == ["3dgs", "lens", "sharp"]
    assert all(run["code"].startswith("0.") for run in table["runs"])
    assert "gap_closed" in table["rows"][0]["figures"] and len(table["rows"]) == 3


def test_a_refused_benchmark_changes_nothing(
    suite_folder: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another suite with scenes of the same names: its photos must not take the place of the first one's."""
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(suite_folder, other, symlinks=True)
    assert bench(suite_folder, out, "--methods", "sharp", "--scenes", "one") == 0
    assert bench(other, out, "--methods", "sharp", "--scenes", "one") == 2
    twin = (out / "data" / "one-sharp" / "images" / "view_1.png").resolve()
    assert twin.is_relative_to(suite_folder.resolve())
    with alone_in(out):
        assert bench(suite_folder, out, "--methods", "sharp", "--scenes", "one") == 2
    assert "Another cocogs is at work in" in capsys.readouterr().err


def test_weights_are_read_before_the_training(suite_folder: Path, tmp_path: Path, capsys) -> None:
    options = ("--lpips-weights", str(tmp_path / "nowhere"))
    assert bench(suite_folder, tmp_path / "out", *options) == 2
    assert "nowhere" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_other_settings_need_another_folder(
    suite_folder: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(suite_folder, tmp_path / "out", "--methods", "3dgs", "--scenes", "one") == 0
    assert main(["bench", str(suite_folder), "--out", str(tmp_path / "out"), "--iterations", "7"]) == 2
    assert "bench.json holds other settings: give the same settings, or another " in capsys.readouterr().err


def test_ablation_trains_the_paper_without_a_part(tmp_path: Path) -> None:
    scene = BenchScene("one", tmp_path, 8, 2)
    job = Job(scene, "paper-direction", 3, tmp_path / "run")
    command = " ".join(runs.train_command(job, BenchSettings("suite", iterations=9)))
    expected = f"train {tmp_path} --out {tmp_path / 'run'} --preset paper --quality standard --seed 3"
    assert command == f"{expected} --test-every 8 --downscale 2 --iterations 9 --ablate direction"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "3dgs,nerf"), "There is no method nerf: choose "),
        (("--methods", "3dgs,,lens"), "--methods must be different words with commas"),
        (("--seeds", "0,0"), "--seeds must be different words with commas between them, not '0,0'"),
        (("--seeds", "0,00"), "--seeds must be different words with commas between them, not '0,0'"),
        (("--seeds", "0,--1"), "--seeds must be whole numbers with commas between them, not '0,--1'"),
        (("--seeds", "one"), "--seeds must be whole numbers with commas between them, not 'one'"),
        (("--jobs", "0"), "--jobs must be a whole number from 1 to 2147483647, not 0"),
        (("--scenes", "three"), "has no scene three: choose "),
        (("--downscale", "0"), "--downscale must be a whole number from 1 to 2147483647, not 0"),
    ],
)
def test_bad_options(
    suite_folder: Path, tmp_path: Path, capsys, options: tuple[str, str], message: str
) -> None:
    assert main(["bench", str(suite_folder), "--out", str(tmp_path / "out"), *options]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint and complaint.count("\n") == 1


def test_wrong_suite(tmp_path: Path, capsys) -> None:
    assert main(["bench", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]) == 2
    assert "absent is not a folder: give one with truth scenes" in capsys.readouterr().err


# --- processes


@pytest.mark.thorough
def test_process_is_measured_and_logged(tmp_path: Path) -> None:
    usage = Processes().run(["--version"], tmp_path, dict(os.environ))
    usage.check()
    assert usage.output.startswith("cocogs ")
    assert 0 < usage.cpu_seconds < 60 and usage.wall_seconds > 0 and usage.peak_bytes > 1 << 20
    assert (tmp_path / "log.txt").read_text() == f"$ cocogs --version\n{usage.output}"


@pytest.mark.thorough
def test_failure_of_a_process_is_its_own_sentence(tmp_path: Path) -> None:
    usage = Processes().run(["eval", str(tmp_path / "nothing")], tmp_path, dict(os.environ))
    with pytest.raises(InputError, match="nothing is not a run: it has no config"):
        usage.check()
    assert "is not a run" in (tmp_path / "log.txt").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_process_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    usage = Processes().run([], tmp_path, dict(os.environ))
    assert usage.error == "ended with code 1"


# --- the table


def result(scene: str, method: str, seed: int, psnr: float, **figures: float) -> Result:
    whole = dict.fromkeys(COLUMNS) | {"psnr": psnr} | figures
    return Result(scene, method, seed, Path(), "0.1.0 abc", whole, {})


SUITE = Suite("Two", [BenchScene("a", Path("a"), 8, 1), BenchScene("b", Path("b"), 8, 1)])


def outcome(*results: Result, suite: Suite = SUITE) -> Outcome:
    return Outcome(suite, BenchSettings("suite", iterations=1500), list(results), [])


def test_mean_over_scenes_and_spread_between_seeds() -> None:
    whole = outcome(
        result("a", "lens", 0, 30.0), result("a", "lens", 1, 32.0),
        result("b", "lens", 0, 20.0), result("b", "lens", 1, 21.0),
    )  # fmt: skip
    figures = {row.scene: row.figures["psnr"] for row in whole.rows}
    assert figures[ALL_SCENES] == (pytest.approx(25.75), pytest.approx(np.std([25.0, 26.5], ddof=1)))
    assert figures["a"] == (31.0, pytest.approx(2**0.5))
    heads, cells = heads_and_cells(whole)
    assert heads == ["scene", "method", "seeds", "PSNR dB"]
    assert cells[0] == [ALL_SCENES, "lens", "2", "25.75 ± 1.06"]


def test_one_seed_has_no_spread_and_a_missing_scene_is_told() -> None:
    whole = outcome(result("a", "lens", 0, 30.0))
    assert whole.rows[0].figures["psnr"] == (30.0, None)
    assert heads_and_cells(whole)[1][0] == ["1 of 2 scenes", "lens", "1", "30.00"]


def test_nothing_has_no_sign() -> None:
    assert heads_and_cells(outcome(result("a", "3dgs", 0, -1e-15)))[1][0][-1] == "0.00"


def test_seed_that_lacks_a_scene_is_no_part_of_the_spread() -> None:
    results = result("a", "lens", 0, 30.0), result("b", "lens", 0, 20.0), result("a", "lens", 1, 40.0)
    assert outcome(*results).rows[0].figures["psnr"] == (27.5, None)


def test_methods_stand_in_one_order_and_scenes_of_other_calls_come_last() -> None:
    whole = outcome(result("c", "full", 0, 1.0), result("a", "full", 0, 1.0), result("a", "3dgs", 0, 1.0))
    assert [(row.scene, row.method) for row in whole.rows] == [
        (ALL_SCENES, "3dgs"), (ALL_SCENES, "full"), ("a", "3dgs"), ("a", "full"), ("c", "full"),
    ]  # fmt: skip
    assert heads_and_cells(whole)[1][1][0] == "2 of 3 scenes"


def test_versions_that_differ_are_told() -> None:
    old = replace(result("a", "full", 0, 1.0), code="0.1.0 old")
    assert "Trained by cocogs 0.1.0 abc." in to_markdown(outcome(result("a", "lens", 0, 1.0)))
    assert "Different versions of cocogs trained the runs: 0.1.0 abc, 0.1.0 old" in to_markdown(
        outcome(result("a", "lens", 0, 1.0), old)
    )


def write_evaluation(folder: Path, psnr: float) -> Path:
    folder.mkdir(parents=True)
    path = folder / "eval.json"
    path.write_text(json.dumps({"gaussians": 5, "views": [], "mean": {"psnr": psnr}}))
    return path


def test_gap_closed(tmp_path: Path) -> None:
    """Between the floor and the ceiling of the same scene."""
    for method, psnr in (("3dgs", 24.0), ("sharp", 34.0), ("lens", 32.0)):
        write_evaluation(tmp_path / "runs" / "a" / method / "seed0", psnr)
    results, damaged = collect(tmp_path)
    closed = {r.method: r.figures["gap_closed"] for r in results}
    assert closed == {"3dgs": 0.0, "sharp": 100.0, "lens": pytest.approx(80.0)} and damaged == []
    shutil.rmtree(tmp_path / "runs" / "a" / "3dgs")
    assert [r.figures["gap_closed"] for r in collect(tmp_path)[0]] == [None, None]


def test_damaged_evaluation_is_named_and_stops_no_other(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "runs" / "a" / "lens" / "seed0", 30.0)
    write_evaluation(tmp_path / "runs" / "a" / "lens" / "seed1", 30.0).write_text("{")
    results, (sentence,) = collect(tmp_path)
    assert [(r.scene, r.method, r.seed) for r in results] == [("a", "lens", 0)]
    assert re.search(r"seed1/eval\.json cannot be read .*: delete it and start again", sentence)


def test_published_figures_are_marked_and_stand_in_their_columns_only() -> None:
    suite = Suite("Two", SUITE.scenes, (Published("CoCoGaussian", 23.70, 0.7531, 0.0825),))
    figures = {"ssim_uniform_7": 0.9, "ssim_gaussian_11": 0.8}
    one, other = result("a", "lens", 0, 30.0, **figures), result("b", "lens", 0, 30.0, **figures)
    assert "published" not in to_markdown(outcome(one, suite=suite))  # of all scenes
    text = to_markdown(outcome(one, other, suite=suite))
    assert "| all scenes | CoCoGaussian (published) |  | 23.70 |  | 0.7531 |" in text
    assert "| scene | method | seeds | PSNR dB | SSIM Gaussian 11 | SSIM uniform 7 |" in text
    assert "`suite`, 1,500 steps" in text


def test_published_figures_are_those_of_the_paper() -> None:
    """Of CoCoGaussian (Lee et al., CVPR 2025)."""
    paper = {key: p.published[0] for key, p in PROTOCOLS.items() if p.published}
    assert {key: (p.psnr, p.ssim_uniform_7, p.lpips) for key, p in paper.items()} == {
        "deblur-nerf-real": (23.70, 0.7531, 0.0825),
        "deblur-nerf-synthetic": (30.84, 0.9212, 0.0478),
        "dof-nerf-real": (30.14, 0.9127, 0.0701),
    }


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        (-9, "ended by signal 9"),  # killed at once
        (143, "ended by signal 15"),  # SIGTERM, after which a process cleaned up and ended itself
        (2, "The photos are gone."),
        (1, "The photos are gone."),
    ],
)
def test_reason_of_a_failure(code: int, seen: str) -> None:
    assert reason(code, "A trace\ncocogs: error: The photos are gone.").startswith(seen)


# ------------------------------------------------------------------------------------------- one photo


@pytest.mark.thorough
def test_refocusing_is_measured_against_the_truth(tmp_path: Path, capsys) -> None:
    suite = tmp_path / "suite"
    for name, seed in (("one", 1), ("two", 2)):
        write_tiny_truth(suite / name, seed)
        (suite / name / "depth").mkdir()
        depth = np.linspace(1, 4, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
        for path in (suite / name / "images").iterdir():
            np.save(suite / name / "depth" / f"{path.stem}.npy", depth)
    assert main(["bench", "refocus", str(suite), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "| all scenes | layers |" in shown and "| one | untouched |" in shown
    entries = json.loads((tmp_path / "out" / "refocus.json").read_text())
    assert len(entries) == 3 * 5 and all(-1 <= entry["blur_correlation"] <= 1 for entry in entries)
    assert "Scene two" in (tmp_path / "out" / "refocus.html").read_text()
    shutil.rmtree(suite / "two" / "depth")
    assert main(["bench", "refocus", str(suite), "--out", str(tmp_path / "out")]) == 2
    assert str(suite / "two" / "depth") in capsys.readouterr().err


def test_a_suite_without_truth_is_told(tmp_path: Path, capsys) -> None:
    assert main(["bench", "refocus", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no truth scene" in capsys.readouterr().err
