"""Signals that end a process, handled for a while."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # Windows has no SIGHUP


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Any], *more: int) -> Iterator[Callable[[], None]]:
    """SIGTERM and SIGHUP (a closed terminal), and `more`, call `handler` until the end of the block.

    SIGTERM and SIGHUP that are ignored stay so (nohup). In a thread other than the main one, which alone may
    set handlers, nothing changes.

    Yields:
        A function that brings the handlers of before back at once.
    """
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, before in previous.items():
            signal.signal(number, before)

    if threading.current_thread() is threading.main_thread():
        ending = [n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN]
        previous |= {number: signal.signal(number, handler) for number in (*more, *ending)}
    try:
        yield restore
    finally:
        restore()
