"""Training that is told to stop finishes its step and saves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether training should end."""

    is_set = False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP (a closed terminal) into a request to end the step and save.

    The second one does what it did before. SIGTERM and SIGHUP that are ignored stay so (nohup). In a thread
    other than the main one, which may not set handlers, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        stop.is_set = True
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    ending = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, *ending)}
    try:
        yield stop
    finally:
        restore()
