"""The render scheduler: coarse while moving, full when still, nothing stale."""

import math
import threading
from collections.abc import Callable

import pytest

from cocogs.viewer.schedule import AbandonedError, Effort, RenderLoop, Schedule, Task

REFINEMENTS = (0, 16, 64)


def due(schedule: Schedule[str], now: float) -> Task[str]:
    task = schedule.next(now)
    assert isinstance(task, Task), f"nothing to draw for {task} s"
    return task


def test_nothing_is_drawn_unasked() -> None:
    assert Schedule[str]().next(0) == math.inf


def test_a_request_is_drawn_coarse_at_once_then_full_and_finer() -> None:
    schedule = Schedule[str](rest_seconds=0.2)
    schedule.submit("view", REFINEMENTS, 10.0)
    task = due(schedule, 10.0)
    assert task.request == "view" and task.effort.is_coarse
    assert task.effort.scale < 1 and task.effort.samples == 0
    schedule.done(task, 0.05)
    assert schedule.next(10.05) == pytest.approx(0.15)
    for samples in REFINEMENTS:
        task = due(schedule, 10.3)
        assert task.effort == Effort(1.0, samples, is_coarse=False)
        schedule.done(task, 1.0)
    assert schedule.next(20.0) == math.inf


def test_only_the_newest_request_is_drawn() -> None:
    schedule = Schedule[str]()
    for name in ("first", "second", "third"):
        schedule.submit(name, REFINEMENTS, 0.0)
    task = due(schedule, 0.0)
    assert task.request == "third"
    schedule.done(task, 0.01)
    assert isinstance(schedule.next(0.01), float)  # "first" and "second" are never drawn


def test_stays_coarse_while_requests_keep_coming() -> None:
    schedule = Schedule[str](rest_seconds=0.15)
    now = 0.0
    for index in range(50):
        schedule.submit(f"view {index}", REFINEMENTS, now)
        task = due(schedule, now)
        assert task.effort.is_coarse
        schedule.done(task, 0.05)
        now += 0.1
        assert isinstance(schedule.next(now), float)
    assert not due(schedule, now + 0.1).effort.is_coarse


def test_what_was_overtaken_while_drawn_does_not_count_as_the_new_one() -> None:
    schedule = Schedule[str]()
    schedule.submit("old", REFINEMENTS, 0.0)
    old = due(schedule, 0.0)
    schedule.submit("new", REFINEMENTS, 0.01)
    assert not schedule.is_wanted(old)
    schedule.done(old, 0.05)
    task = due(schedule, 0.05)
    assert task.request == "new" and task.effort.is_coarse


def test_coarse_pictures_fit_into_the_time_of_a_frame() -> None:
    """A renderer whose time grows with the number of pixels, at three speeds."""
    for full_seconds in (0.01, 0.15, 0.5):
        schedule = Schedule[str](frame_seconds=1 / 15)
        for index in range(20):
            schedule.submit(f"view {index}", (), float(index))
            task = due(schedule, float(index))
            schedule.done(task, full_seconds * task.effort.scale**2)
        seconds = full_seconds * task.effort.scale**2
        assert seconds <= 1 / 15 * 1.05
        assert task.effort.scale == 1 or seconds > 1 / 15 * 0.8


def test_a_slow_renderer_still_gets_a_picture() -> None:
    schedule = Schedule[str]()
    for index in range(20):
        schedule.submit("view", (), float(index))
        schedule.done(due(schedule, float(index)), 5.0)
    schedule.submit("view", (), 20.0)
    assert due(schedule, 20.0).effort.scale == Schedule.SMALLEST_SCALE


class Painter:
    """Draws slowly when asked for samples: one event per picture begun, until told to go on."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, Effort]] = []
        self.abandoned: list[str] = []
        self.refining, self.still = threading.Event(), threading.Event()

    def __call__(self, request: str, effort: Effort, check: Callable[[], None]) -> None:
        if effort.samples == 64:
            self.refining.set()
            for _ in range(500):  # at most 5 s
                try:
                    check()
                except AbandonedError:
                    self.abandoned.append(request)
                    raise
                threading.Event().wait(0.01)
        self.drawn.append((request, effort))
        if request == "last" and effort.samples == 16:
            self.still.set()


def test_the_loop_abandons_a_refinement_for_a_new_request() -> None:
    painter = Painter()
    loop = RenderLoop(painter, Schedule(rest_seconds=0.01))
    loop.submit("first", REFINEMENTS)
    assert painter.refining.wait(5)
    loop.submit("last", (0, 16))
    assert painter.still.wait(5)
    loop.close()
    assert painter.abandoned == ["first"]
    assert [request for request, _ in painter.drawn] == ["first"] * 3 + ["last"] * 3
    assert not loop._thread.is_alive()


def test_closing_the_loop_abandons_what_is_drawn() -> None:
    painter = Painter()
    loop = RenderLoop(painter, Schedule(rest_seconds=0.01))
    loop.submit("first", REFINEMENTS)
    assert painter.refining.wait(5)
    loop.close()
    assert painter.abandoned == ["first"]


def test_the_loop_survives_a_failing_picture(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = threading.Event()

    def draw(request: str, effort: Effort, check: Callable[[], None]) -> None:
        if request == "bad":
            raise ValueError("no such picture")
        drawn.set()

    loop = RenderLoop(draw, Schedule(rest_seconds=0.01))
    loop.submit("bad", ())
    threading.Event().wait(0.05)
    loop.submit("good", ())
    assert drawn.wait(5)
    loop.close()
    assert "no such picture" in capsys.readouterr().err
