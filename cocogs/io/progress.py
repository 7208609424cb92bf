"""How far a slow step is: a bar on a terminal, elsewhere a line per 10 %; with the time that is left."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Say = Callable[[str], None]
Phases = Sequence[tuple[int, float]]
"""(first item of a phase, counted from 1; what an item costs in relation to those of the other phases)."""

WINDOW = 100  # items; what an item costs is averaged over about the last so many
FRAME = 0.1  # seconds between two drawings of a bar
LONGEST_BAR, SHORTEST_BAR = 40, 10  # columns


class TimeLeft:
    """Estimates how long the rest takes, where items may cost more in some phases than in others.

    A phase whose items have been timed counts by these times; one still to come by the relative costs.

    Args:
        start: items that were done before.
        total: items in all.
        phases: the first one starts at item 1.
        now: seconds on some clock.
    """

    def __init__(self, start: int, total: int, phases: Phases, now: float) -> None:
        self.done, self.total, self.now = start, total, now
        self.costs = [cost for _, cost in phases]
        firsts = [first for first, _ in phases]
        self.ranges = [(a - 1, b - 1) for a, b in zip(firsts, [*firsts[1:], total + 1], strict=True)]
        self.timed = [0] * len(phases)  # items
        self.seconds: list[float] = [0.0] * len(phases)  # of an item
        self.latest: int | None = None  # phase of the last timed item

    def passed(self, done: int, now: float) -> None:
        """Note that `done` items in all are done at the time `now`."""
        counts = self._counts(self.done, done)
        expected = [self._expected(phase) or self.costs[phase] for phase in range(len(counts))]
        whole = sum(count * seconds for count, seconds in zip(counts, expected, strict=True))
        for phase, count in enumerate(counts):
            if count:
                measured = (now - self.now) * expected[phase] / max(whole, 1e-12)
                self.timed[phase] += count
                weight = max(count / self.timed[phase], 1 - math.exp(-count / WINDOW))
                self.seconds[phase] += weight * (measured - self.seconds[phase])
                self.latest = phase
        self.done, self.now = done, now

    @property
    def left(self) -> float | None:
        """Seconds to the end; None before anything was timed."""
        if self.latest is None:
            return None
        counts = self._counts(self.done, self.total)
        return sum(count * (self._expected(phase) or 0.0) for phase, count in enumerate(counts))

    @property
    def rate(self) -> float | None:
        """Items per second of late; None before anything was timed."""
        return None if self.latest is None else 1 / max(self.seconds[self.latest], 1e-9)

    def _expected(self, phase: int) -> float | None:
        """Seconds per item."""
        if self.timed[phase]:
            return self.seconds[phase]
        if self.latest is None:
            return None
        return self.seconds[self.latest] * self.costs[phase] / self.costs[self.latest]

    def _counts(self, start: int, end: int) -> list[int]:
        """How many of the items `start` + 1 to `end` lie in each phase."""
        return [max(0, min(end, b) - max(start, a)) for a, b in self.ranges]


class Progress:
    """Shows how far a step is.

    Used as a context manager it draws a bar where `say` prints on a terminal. Otherwise `say` gets a line for
    every tenth that is passed.

    Args:
        what: name of the step.
        total: number of items.
        say: receives the lines.
        patience: seconds of silence at first, so that quick steps show nothing.
        start: items that were done before.
        phases: see `Phases`; by default all items cost the same.
    """

    def __init__(
        self, what: str, total: int, say: Say, patience: float = 0.0, start: int = 0,
        phases: Phases = ((1, 1.0),),
    ) -> None:  # fmt: skip
        self.what, self.total, self.say = what, total, say
        self.done = start
        self.said = self._tenths()
        now = time.monotonic()
        self.silent_until, self.drawn = now + patience, -math.inf
        self.time = TimeLeft(start, total, phases, now)
        self.console, self.bar = None, None

    def __enter__(self) -> "Progress":
        self.console = terminal_of(self.say)
        return self

    def __exit__(self, *exception: object) -> None:
        self.console = None
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def add(self, count: int) -> None:
        """Note that `count` more items are done."""
        self.at(self.done + count)

    def at(self, done: int, facts: Callable[[], Sequence[str]] = tuple) -> None:
        """Note that `done` items are done in all.

        Args:
            facts: gives figures to show beside the share; called only when something is shown.
        """
        now = time.monotonic()
        self.done = done
        self.time.passed(done, now)
        if now < self.silent_until:
            return
        if self.console is not None:
            if now - self.drawn >= FRAME or done >= self.total:
                self.drawn = now
                self._draw(self._facts(facts))
        elif (tenths := self._tenths()) > self.said:
            self.said = tenths
            figures = facts()
            left = self._facts(lambda: figures) if figures else ()
            self.say("  ".join((f"{self.what}: {10 * tenths} %", *left)))

    def _tenths(self) -> int:
        return min(10, 10 * self.done // max(self.total, 1))

    def _facts(self, facts: Callable[[], Sequence[str]]) -> list[str]:
        left = self.time.left
        return [*([] if left is None else [f"{duration(left)} left"]), *facts()]

    def _draw(self, facts: Sequence[str]) -> None:
        from rich.live import Live
        from rich.text import Text

        assert self.console is not None
        if self.bar is None:
            self.bar = Live(console=self.console, auto_refresh=False)
            self.bar.start()
        lines = layout(self.what, self.done / max(self.total, 1), facts, self.console.width)
        self.bar.update(Text("\n".join(lines), no_wrap=True), refresh=True)


def layout(what: str, share: float, facts: Sequence[str], width: int) -> list[str]:
    """The lines of a bar: one where the terminal is wide enough, else the facts wrapped below the bar.

    Args:
        share: done, in [0, 1].
        width: columns of the terminal.
    """
    head = f"{what} {math.floor(100 * share)} %  "
    tail = "  ".join(["", *facts])
    beside = min(LONGEST_BAR, width - len(head) - len(tail))
    if beside >= SHORTEST_BAR:
        return [head + stripe(share, beside) + tail]
    lines = [(head + stripe(share, max(0, min(LONGEST_BAR, width - len(head))))).rstrip()]
    for fact in facts:
        if len(lines) > 1 and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines


def stripe(share: float, width: int) -> str:
    full = round(min(max(share, 0.0), 1.0) * width)
    return "#" * full + "-" * (width - full)


def terminal_of(say: Say) -> Any:
    """The rich console of the terminal on which `say` prints; None where it prints elsewhere."""
    from rich.console import Console

    owner = getattr(say, "__self__", None)
    if isinstance(owner, Console):
        return owner if owner.is_terminal else None
    if say is print and sys.stdout.isatty():
        return Console(markup=False, emoji=False, highlight=False)
    return None


def duration(seconds: float) -> str:
    """`3:07`, or `1:03:07` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
