"""A slider for one property of the lens, in a unit that the user reads."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import viser

from cocogs.optics.lens import Lens

STEPS = 500  # a slider has at least that many positions


class Dial:
    """A slider that shows and sets a property of the lens.

    Args:
        gui: where it is added.
        label, hint: what the user reads.
        limits: of the slider; its range is wider only while the lens is outside them.
        shown: lens -> the value of the slider.
        changed: called with the new value when the user has moved the slider.
    """

    def __init__(
        self, gui: viser.GuiApi, label: str, hint: str, limits: tuple[float, float],
        shown: Callable[[Lens], float], changed: Callable[[float], None], lens: Lens,
    ) -> None:  # fmt: skip
        self._limits, self._shown = limits, shown
        self._step = fine_step(limits[1] - limits[0])
        low, value, high = self._rounded(lens)
        self.handle = gui.add_slider(label, low, high, self._step, value, hint=hint)

        @self.handle.on_update
        def _(event: viser.GuiEvent) -> None:
            if event.client is not None:  # the user, not `sync`
                changed(within(self.handle))

    def sync(self, lens: Lens) -> None:
        """Show the lens."""
        low, value, high = self._rounded(lens)
        # The value must lie between the limits at every moment.
        self._limit(min(low, self.handle.min), max(high, self.handle.max))
        self.handle.value = value
        self._limit(low, high)

    def _limit(self, low: float, high: float) -> None:
        if low != self.handle.min:
            self.handle.min = low
        if high != self.handle.max:
            self.handle.max = high

    def _rounded(self, lens: Lens) -> tuple[float, float, float]:
        """Lower limit, value and upper limit as multiples of the step, with the value between them."""
        limits = self._limits
        value = min(self._shown(lens), 1e6 * limits[1])  # a lens may be focused at infinity
        low = max(math.floor(limits[0] / self._step), 1 if limits[0] > 0 else 0)
        high, middle = math.ceil(limits[1] / self._step), round(value / self._step)
        digits = max(0, -round(math.log10(self._step)))
        low, middle, high = (
            round(n * self._step, digits) for n in (min(low, max(middle, 1)), middle, max(high, middle))
        )
        return low, max(middle, low), high


def within(handle: Any) -> float:
    """The number of a slider or field, within its limits, which a visitor's browser may not have kept."""
    value = handle.value if handle.min is None else max(handle.value, handle.min)
    return value if handle.max is None else min(value, handle.max)


def among(choices: Sequence[str], value: str) -> str:
    """What a visitor chose, or the first choice if it is none of them."""
    return value if value in choices else choices[0]


def fine_step(span: float) -> float:
    """A power of ten that divides `span` > 0 into at least `STEPS` steps."""
    return 10.0 ** math.floor(math.log10(span / STEPS))
