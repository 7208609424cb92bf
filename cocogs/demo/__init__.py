"""`cocogs demo`: train, measure and render the bundled scene, and write a report page."""

import io
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from cocogs.checkpoint import is_trained
from cocogs.errors import InputError
from cocogs.io.atomic import write_text

Command = Callable[[list[str]], int]
"""Runs a command of cocogs by its words, and returns its exit code."""

PLACES = (Path(__file__).parent / "scene", Path(__file__).parents[2] / "data" / "demo")
"""Where the scene lies: in an installed package, in a clone."""
MAX_GAUSSIANS = 60_000
"""Fewer than the default: enough for pictures of this size, and quick to train on two cores."""
FOCUS_DISTANCES = (0.75, 1.05, 1.7)
"""Metres; truth.json has a refocused picture of test view 006 at each of them."""


def run_demo(run: Path, iterations: int | None, say: Callable[[str], None], command: Command) -> int:
    """Train, measure and render the bundled scene as a user would, each by a command that is printed first.

    What an earlier call has done is not done again.

    Args:
        run: the folder for the result; the page is `run`/report.html.
        iterations: training steps; None: those of quality standard.
        command: the command line. In this process: each process of its own would load torch again.

    Returns:
        The exit code: 0, or that of the command that failed or was stopped.

    Raises:
        InputError: the scene is absent or damaged, or the page cannot be written.
    """
    scene = bundled_scene()
    done: list[str] = []
    for words, output in commands(scene, run, iterations):
        done.append(shown(words, output))
        say(f"\n$ {done[-1]}")
        if code := execute(command, words, output):
            return code
    page = write_page(scene, run, done)
    say(f"\nThe report: {page}")
    return 0


def bundled_scene() -> Path:
    """The folder of the bundled scene, relative if it lies below the current one.

    Raises:
        InputError: it is not there.
    """
    for folder in PLACES:
        if folder.is_dir():
            here = Path.cwd()
            return folder.relative_to(here) if folder.is_relative_to(here) else folder
    raise InputError(f"The demo's photos are not in {PLACES[0]}: reinstall cocogs.")


def commands(scene: Path, run: Path, iterations: int | None) -> list[tuple[list[str], Path | None]]:
    """The words of every command after `cocogs`, and the file that takes its output, if any."""
    started = is_trained(run)
    train = ["train", str(scene), "--out", str(run)]
    train += ["--resume"] if started else ["--quality", "standard", "--max-gaussians", str(MAX_GAUSSIANS)]
    if iterations is not None:
        train += ["--iterations", str(iterations)]
    found: list[tuple[list[str], Path | None]] = [
        (train, None),
        (["eval", str(run), "--json"], run / "eval.json"),
        (["render", str(run), "--views", "all", "--out", str(run / "sharp")], None),
    ]
    metre = 1 / unit_in_metres(scene)
    for distance in FOCUS_DISTANCES:
        out = run / "refocused" / f"f{distance:g}"
        focus = f"{distance * metre:.4f}"
        found.append((["render", str(run), "--views", "test", "--focus", focus, "--out", str(out)], None))
    return found


def shown(words: list[str], output: Path | None) -> str:
    """A command as one types it."""
    return shlex.join(["cocogs", *words]) + (f" > {shlex.quote(str(output))}" if output else "")


def execute(command: Command, words: list[str], output: Path | None) -> int:
    """Run one command; returns its exit code. `output` takes what it prints, if it succeeds."""
    if output is None:
        return command(words)
    with redirect_stdout(io.StringIO()) as printed:
        code = command(words)
    if code == 0:
        write_text(output, printed.getvalue())
    return code


def unit_in_metres(scene: Path) -> float:
    """Metres in one unit of the scene's COLMAP model, which is the unit of the run's focus distances."""
    from cocogs.demo.report import truth_unit
    from cocogs.io.truth_file import read_truth

    return truth_unit(read_truth(scene / "truth.json"), scene / "sparse" / "0")


def write_page(scene: Path, run: Path, done: list[str]) -> Path:
    """Write RUN/report.html about the finished run. Returns its path."""
    from cocogs.demo.report import Report, write_report

    report = Report(
        photos=scene / "images",
        sharp=run / "sharp",
        truth=scene / "images",
        truth_json=scene / "truth.json",
        sparse=scene / "sparse" / "0",
        refocus_truth=scene / "refocus",
        refocused=run / "refocused",
        eval=run / "eval.json",
        lens=run / "lens.json",
        commands=tuple(done),
    )
    page = run / "report.html"
    write_report(report, page)
    return page
