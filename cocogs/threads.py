"""How many threads: the compiled passes take all that torch has, torch itself sometimes one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_all: int | None = None  # what torch had before it was held at one


def pass_threads() -> int:
    """Threads for a compiled pass over splats or pixels."""
    return torch.get_num_threads() if _all is None else _all


@contextmanager
def torch_on_one(wanted: bool = True) -> Iterator[None]:
    """Inside, torch works on one thread and the compiled passes on as many as torch had.

    Of the hundred small operations of a training step each one wakes threads and waits for them, which takes
    longer than most of them would on one thread (docs/benchmarks.md). Letting the threads spin instead of
    sleep would help as much, but halves the speed of two trainings beside each other.
    """
    global _all
    if not wanted or _all is not None:
        yield
        return
    _all = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_all)
        _all = None
