"""How many threads work: the compiled passes take all that torch has, torch itself sometimes one."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

import torch


class _Threads:
    """The number of threads that torch had before it was held at one.

    torch's own number of threads is state of the process, so this is too. It has one instance, below, and the
    two functions of this file are the only ones to use it. It may be used from several threads.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0  # blocks `torch_on_one`, of all threads, that are being executed
        self.all = 0  # what torch had before the first of them began
        self.this_thread = local()  # .depth: those of this thread

    def for_passes(self) -> int:
        with self.lock:
            return self.all if self.holders else torch.get_num_threads()

    def hold(self) -> None:
        with self.lock:
            if self.holders == 0:
                self.all = torch.get_num_threads()
            self.holders += 1
            self.this_thread.depth = getattr(self.this_thread, "depth", 0) + 1
            torch.set_num_threads(1)

    def let_go(self) -> None:
        with self.lock:
            self.holders -= 1
            self.this_thread.depth -= 1
            if self.this_thread.depth == 0:
                torch.set_num_threads(self.all)


_threads = _Threads()


def pass_threads() -> int:
    """Threads for a compiled pass over splats or pixels."""
    return _threads.for_passes()


@contextmanager
def torch_on_one(wanted: bool = True) -> Iterator[None]:
    """Inside, torch works on one thread and the compiled passes on as many as torch had.

    A training step is a hundred small operations. Each would wake threads and wait for them, which takes
    longer than most of them take on one thread (docs/benchmarks.md). Letting the threads spin instead of
    sleep would help as much, but halves the speed of two trainings beside each other.

    Args:
        wanted: False to change nothing.
    """
    if not wanted:
        yield
        return
    _threads.hold()
    try:
        yield
    finally:
        _threads.let_go()
