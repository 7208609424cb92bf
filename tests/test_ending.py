"""Commands that are told to end, or whose output nobody reads any more: quietly, with nothing lost."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_cli import ONE_THREAD, REPOSITORY, Training, growing
from tiny_run import SMALL, tiny_gaussians, tiny_run, tiny_scene

from cocogs.checkpoint import read_checkpoint
from cocogs.cli import main
from cocogs.config import DataConfig
from cocogs.io.ply import write_ply
from cocogs.run import load_run, write_config
from cocogs.train.interrupt import stop_on_interrupt


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def start(*arguments: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "cocogs", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=REPOSITORY, env=ONE_THREAD, text=True, **pipes | options)  # type: ignore[call-overload]


def ends(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and what was printed as errors."""
    assert process.stderr is not None
    with process:  # closes its pipes
        errors = process.stderr.read()
    return process.returncode, errors


@pytest.mark.thorough
def test_training_goes_on_when_its_reader_goes(root: Path, tmp_path: Path) -> None:
    """`cocogs train DATA --out RUN | head -1`."""
    training = start("train", tiny_scene(root), "--out", tmp_path / "run", "--preset", "lens", *SMALL)
    assert training.stdout is not None and training.stdout.readline().startswith("Cameras from")
    training.stdout.close()
    assert ends(training) == (0, "")
    assert load_run(tmp_path / "run").step == 50


def test_errors_are_told_when_the_reader_has_gone(tmp_path: Path) -> None:
    """The standard output alone is broken."""
    process = start("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert process.stdout is not None
    process.stdout.close()
    code, errors = ends(process)
    assert code == 2 and "nowhere does not exist" in errors


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["eval", "RUN"]])
def test_other_commands_end_quietly_without_a_reader(arguments: list[str], root: Path) -> None:
    """`cocogs --help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    run = str(tiny_run(root, "lens"))
    process = start(*[run if word == "RUN" else word for word in arguments], stdout=writing)
    os.close(writing)
    assert ends(process) == (141, "")


@pytest.mark.thorough
def test_a_full_disk_in_the_place_of_the_output_is_one_sentence(root: Path) -> None:
    with open("/dev/full", "w") as full:
        code, errors = ends(start("eval", tiny_run(root, "lens"), stdout=full))
    assert code == 2 and "No space left" in errors
    assert errors.startswith("cocogs: error: The standard output cannot be written")
    assert errors.count("\n") == 1


@pytest.mark.thorough
@pytest.mark.parametrize(("arguments", "code"), [("eval RUN", 141), ("eval nowhere", 2), ("train DATA", 0)])
def test_closed_outputs(arguments: str, code: int, root: Path, tmp_path: Path) -> None:
    """Daemons and cron close them: `cocogs train DATA --out RUN >&- 2>&-`."""
    if arguments == "train DATA":
        arguments = f"train {tiny_scene(root)} --out {tmp_path / 'run'} {' '.join(SMALL)}"
    arguments = arguments.replace("RUN", str(tiny_run(root, "lens")))
    script = f'exec "{sys.executable}" -m cocogs {arguments} <&- >&-'
    with open(tmp_path / "errors", "w") as errors:
        ended = subprocess.run(script, shell=True, cwd=REPOSITORY, env=ONE_THREAD, stderr=errors)
    assert ended.returncode == code
    assert (tmp_path / "errors").read_text().count("\n") == (code == 2)
    if code == 2:
        assert subprocess.run(f"{script} 2>&-", shell=True, cwd=REPOSITORY, env=ONE_THREAD).returncode == 2


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "ascii:surrogateescape"])
def test_names_that_cannot_be_encoded(encoding: str) -> None:
    """é in ASCII, and a byte that is no text in UTF-8."""
    command = [sys.executable, "-m", "cocogs", "eval", b"/nowhere/\xc3\xa9\xff"]
    ended = subprocess.run(
        command, cwd=REPOSITORY, env={**ONE_THREAD, "PYTHONIOENCODING": encoding}, capture_output=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"cocogs: error: /nowhere/") and ended.stderr.count(b"\n") == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "raised", ["KeyboardInterrupt", "ImportError('the back-end') from KeyboardInterrupt()"]
)  # fmt: skip
@pytest.mark.parametrize("module", ["tyro", "pycolmap", "torch"])
def test_ctrl_c_while_modules_load(raised: str, module: str, root: Path, tmp_path: Path) -> None:
    """Compiled modules make an ImportError of it."""
    (tmp_path / f"{module}.py").write_text(f"raise {raised}")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cocogs.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", script, "eval", tiny_run(root, "lens")]
    ended = subprocess.run(command, cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "cocogs: stopped.\n")


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_viewer_ends_quietly(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """pycolmap's own handler would print a stack trace."""
    write_ply(tmp_path / "scene.ply", tiny_gaussians())
    viewer = start("view", tmp_path / "scene.ply")
    assert viewer.stdout is not None and "is shown at" in viewer.stdout.readline()
    viewer.send_signal(number)
    assert ends(viewer) == (code, "")


@pytest.mark.thorough
def test_training_saves_when_its_terminal_is_closed(root: Path, tmp_path: Path) -> None:
    data, out = tiny_scene(root), tmp_path / "run"
    write_config(out, growing(iterations=100_000), DataConfig(str(data)))
    training = Training(data, out)
    training.wait_for_step(20)
    code, output, errors = training.end(signal.SIGHUP)
    assert (code, errors) == (130, "") and "Stopped and saved at step" in output
    assert f"at step {read_checkpoint(out)['step']}." in output


@pytest.mark.thorough
def test_training_under_nohup_outlives_its_terminal(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_config(out, growing(iterations=200), DataConfig(str(tiny_scene(root))))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # children inherit that
    try:
        training = Training(tiny_scene(root), out)
        training.wait_for_step(20)
        code, _, errors = training.end(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (code, errors) == (0, "") and read_checkpoint(out)["step"] == 200


def test_handlers_are_put_back(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    streams = sys.stdout, sys.stderr
    assert main(["eval", str(tiny_run(root, "lens"))]) == 0
    assert [signal.getsignal(number) for number in numbers] == before
    assert (sys.stdout, sys.stderr) == streams


def test_a_training_in_a_thread_has_no_handlers() -> None:
    """Only the main thread may set them."""
    stopped = []

    def work() -> None:
        with stop_on_interrupt() as stop:
            stopped.append(stop.is_set)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stopped == [False]
