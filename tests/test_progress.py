"""How far a step is: lines, bars that fit the terminal, and the time left over phases of different cost."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from cocogs.io import progress
from cocogs.io.progress import Progress, TimeLeft, duration, layout

FACTS = ["1:10:55 left", "27.31 dB", "step 2025", "80.1 it/s", "149,000 Gaussians", "peak 11.2 GiB"]


def test_a_line_per_tenth() -> None:
    lines: list[str] = []
    counter = Progress("Matching", 40, lines.append)
    for _ in range(40):
        counter.add(1)
    assert lines == [f"Matching: {tenth} %" for tenth in range(10, 101, 10)]


def test_what_was_done_before_is_not_said_again() -> None:
    lines: list[str] = []
    counter = Progress("Training", 100, lines.append, start=55)
    for done in range(56, 101):
        counter.at(done, lambda done=done: [f"step {done}"])
    assert [line.split(" %")[0] for line in lines] == [
        f"Training: {tenth}" for tenth in (60, 70, 80, 90, 100)
    ]
    assert all(" left  step " in line for line in lines)


def test_quick_steps_stay_silent() -> None:
    lines: list[str] = []
    with Progress("Preparing", 3, lines.append, patience=60) as counter:
        for _ in range(3):
            counter.add(1)
    assert lines == []


def test_nothing_to_do_is_no_error() -> None:
    Progress("Preparing", 0, pytest.fail).add(0)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_every_figure_is_seen_on_a_terminal_of_any_width(width: int) -> None:
    lines = layout("Training", 0.455, FACTS, width)
    assert all(len(line) <= width for line in lines)
    assert "Training 45 %" in lines[0]
    assert [fact for line in lines[1:] or lines for fact in line.split("  ") if fact in FACTS] == FACTS
    assert len(lines) == 1 or width < 140


def test_a_bar_is_as_long_as_what_is_done() -> None:
    for share in (0.0, 0.25, 1.0):
        [line] = layout("Training", share, [], 100)
        assert line.count("#") == round(share * (line.count("#") + line.count("-")))


def run_at(speeds: Sequence[tuple[int, float]], estimate: TimeLeft, until: int, every: int = 20) -> None:
    """Tell an estimate of steps of which those after a certain one take so many seconds each."""
    now = estimate.now
    for step in range(estimate.done + 1, until + 1):
        now += next(seconds for after, seconds in reversed(speeds) if step > after)
        if step % every == 0 or step == until:
            estimate.passed(step, now)


def test_the_time_left_knows_that_the_last_fifth_is_slower() -> None:
    """As if from step 3,601 of 4,500 a step drew five samples. Else half of the time is missing."""
    speeds = [(0, 0.02), (3600, 0.1)]
    knowing, ignorant = (TimeLeft(0, 4500, phases, 0.0) for phases in ([(1, 1.0), (3601, 5.0)], [(1, 1.0)]))
    for estimate in (knowing, ignorant):
        run_at(speeds, estimate, 1800)
    truth = 1800 * 0.02 + 900 * 0.1
    assert knowing.left == pytest.approx(truth, rel=1e-6)
    assert ignorant.left == pytest.approx(2700 * 0.02, rel=1e-6)


def test_a_phase_is_timed_by_itself_as_soon_as_it_runs() -> None:
    """The samples cost 8 times as much, not 5 as expected, and an interval straddles the border."""
    estimate = TimeLeft(0, 4500, [(1, 1.0), (3601, 5.0)], 0.0)
    run_at([(0, 0.02), (3600, 0.16)], estimate, 3990, every=70)
    assert estimate.left == pytest.approx(510 * 0.16, rel=0.02)
    assert estimate.rate == pytest.approx(1 / 0.16, rel=0.02)


def test_a_run_resumed_among_the_samples() -> None:
    estimate = TimeLeft(4000, 4500, [(1, 1.0), (3601, 5.0)], 100.0)
    assert estimate.left is None
    run_at([(0, 0.1)], estimate, 4020)
    assert estimate.left == pytest.approx(48)


def test_the_time_left_follows_a_step_that_gets_slower() -> None:
    """As splats are added."""
    estimate = TimeLeft(0, 4000, [(1, 1.0)], 0.0)
    run_at([(0, 0.01), (1000, 0.03)], estimate, 2000)
    assert estimate.left == pytest.approx(2000 * 0.03, rel=0.02)


def on_a_terminal(code: str, columns: int) -> str:
    """What a Python program prints on a terminal of that width."""
    terminal, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=side, stderr=side, env=environment,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(progress.__file__))),
    )  # fmt: skip
    os.close(side)
    output = b""
    while True:
        try:
            if not (part := os.read(terminal, 65536)):
                break
        except OSError:  # the program has ended
            break
        output += part
    os.close(terminal)
    assert process.wait() == 0, output.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode())


def test_a_narrow_terminal_shows_a_bar_and_all_figures() -> None:
    code = (
        "from cocogs.io.progress import Progress\n"
        "with Progress('Training', 50, print) as p:\n"
        "    for i in range(1, 51): p.at(i, lambda: ['27.31 dB', '149,000 Gaussians', 'peak 1.2 GiB'])\n"
        "print('after')"
    )
    lines = [line for line in re.split(r"[\r\n]+", on_a_terminal(code, 40)) if line]
    assert all(len(line) <= 40 for line in lines)
    *_, bar, first, second, after = lines
    assert bar.startswith("Training 100 %  ####") and after == "after"
    assert (first, second) == ("0:00 left  27.31 dB  149,000 Gaussians", "peak 1.2 GiB")


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 187, 3787)] == ["0:00", "1:00", "3:07", "1:03:07"]
