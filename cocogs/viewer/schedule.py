"""When to draw what: coarse pictures while things change, then finer and finer ones while nothing does."""

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Request = TypeVar("Request")


class AbandonedError(Exception):
    """The picture that is being drawn is no longer wanted."""


@dataclass(frozen=True)
class Effort:
    """How well to draw.

    Args:
        scale: factor of the full width and height, in (0, 1].
        samples: points of the lens; 0 for interactive quality.
        is_coarse: drawn because something has just changed.
    """

    scale: float
    samples: int
    is_coarse: bool


@dataclass(frozen=True)
class Task(Generic[Request]):
    """One picture to draw."""

    request: Request
    effort: Effort
    number: int


class Schedule(Generic[Request]):
    """Decides which picture comes next. It has no threads and no clock: the caller gives the time in seconds.

    A request gets a coarse picture at once, as large as can be drawn in `frame_seconds`, judged by the last
    ones. When no other request has come for `rest_seconds`, pictures of full size follow, one for each number
    of lens samples. Only the newest request counts.
    """

    SMALLEST_SCALE = 0.25

    def __init__(self, frame_seconds: float = 1 / 15, rest_seconds: float = 0.15) -> None:
        self.frame_seconds, self.rest_seconds = frame_seconds, rest_seconds
        self._scale = 0.5
        self._number = 0  # of the newest request
        self._request: Request | None = None
        self._refinements: tuple[int, ...] = ()
        self._arrived = -math.inf
        self._stage = 0  # 0: coarse; i: the i-th refinement

    def submit(self, request: Request, refinements: tuple[int, ...], now: float) -> None:
        """Replace all requests so far by a new one.

        Args:
            refinements: lens samples of the pictures at full size, in order.
        """
        self._number += 1
        self._request, self._refinements, self._arrived, self._stage = request, refinements, now, 0

    def next(self, now: float) -> Task[Request] | float:
        """What to draw now, or for how many seconds to wait (infinity: until the next request)."""
        if self._request is None or self._stage > len(self._refinements):
            return math.inf
        if self._stage == 0:
            return Task(self._request, Effort(self._scale, 0, is_coarse=True), self._number)
        rest = self._arrived + self.rest_seconds - now
        if rest > 0:
            return rest
        samples = self._refinements[self._stage - 1]
        return Task(self._request, Effort(1.0, samples, is_coarse=False), self._number)

    def is_wanted(self, task: Task[Request]) -> bool:
        """Whether no newer request has come."""
        return task.number == self._number

    def done(self, task: Task[Request], seconds: float) -> None:
        """Note that a picture was drawn, and the seconds that it took."""
        if task.effort.is_coarse:
            factor = math.sqrt(self.frame_seconds / max(seconds, 1e-4))
            scale = self._scale * min(max(factor, 0.5), 1.25)
            self._scale = min(max(scale, self.SMALLEST_SCALE), 1.0)
        if self.is_wanted(task):
            self._stage += 1


class RenderLoop(Generic[Request]):
    """A thread that draws what a `Schedule` says.

    Args:
        draw: draws and shows one picture. Its arguments are the request, the effort, and a function to call
            now and then, which raises `AbandonedError` when a newer request has come. Coarse pictures are
            always finished, so that a long movement shows something.
    """

    def __init__(
        self, draw: Callable[[Request, Effort, Callable[[], None]], None], schedule: Schedule | None = None
    ) -> None:
        self._draw = draw
        self._schedule: Schedule[Request] = schedule or Schedule()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cocogs-render", daemon=True)
        self._thread.start()

    def submit(self, request: Request, refinements: tuple[int, ...]) -> None:
        with self._changed:
            self._schedule.submit(request, refinements, time.monotonic())
            self._changed.notify()

    def close(self) -> None:
        """Abandon what is being drawn; returns when the thread has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (task := self._wait_for_task()) is not None:
            began = time.monotonic()
            try:
                self._draw(task.request, task.effort, lambda task=task: self._check(task))
            except AbandonedError:
                continue
            except Exception:  # a bug of ours: report it, and keep the viewer alive
                traceback.print_exc()
            with self._changed:
                self._schedule.done(task, time.monotonic() - began)

    def _wait_for_task(self) -> Task[Request] | None:
        """Wait for the next task until it is due; None when closed."""
        with self._changed:
            while not self._closed:
                task = self._schedule.next(time.monotonic())
                if isinstance(task, Task):
                    return task
                self._changed.wait(None if math.isinf(task) else task)
        return None

    def _check(self, task: Task[Request]) -> None:
        with self._changed:
            if self._closed or not (task.effort.is_coarse or self._schedule.is_wanted(task)):
                raise AbandonedError
