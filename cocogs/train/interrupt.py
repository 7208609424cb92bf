"""Training that is told to stop finishes its step and saves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cocogs.signals import handled


class Stop:
    """Whether training should end."""

    is_set = False


@contextmanager
def stop_on_interrupt(patient: bool = False) -> Iterator[Stop]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request to end the step and save.

    The second one does what it did before. See `handled` for nohup and threads.

    Args:
        patient: later ones do nothing. After Ctrl-C torchrun sends SIGTERM, and after 30 s it kills.
    """
    stop = Stop()

    def request(number: int, frame: FrameType | None) -> None:
        stop.is_set = True
        if not patient:
            restore()

    with handled(request, signal.SIGINT) as restore:
        yield stop
