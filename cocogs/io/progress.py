"""How far a slow step is, in lines for the user."""

import time
from collections.abc import Callable

Say = Callable[[str], None]


class Progress:
    """Says every tenth of a step as it is passed.

    Args:
        what: name of the step.
        total: how many items it has.
        say: receives the lines.
        patience: seconds to say nothing at first, so that quick steps stay silent.
    """

    def __init__(self, what: str, total: int, say: Say, patience: float = 0.0):
        self.what, self.total, self.say = what, total, say
        self.done = self.said = 0
        self.silent_until = time.monotonic() + patience

    def add(self, count: int) -> None:
        """Note that `count` more items are done."""
        self.done += count
        tenths = min(10, 10 * self.done // max(self.total, 1))
        if tenths > self.said and time.monotonic() >= self.silent_until:
            self.said = tenths
            self.say(f"{self.what}: {10 * tenths} %")
