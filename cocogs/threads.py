"""How many cores there are, and how many threads work on them: the compiled passes take all that torch has,
torch itself sometimes one."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, local
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Threads:
    """The number of threads that torch had before it was held at one.

    torch keeps that number per thread, and a new thread takes it over from the one that set it last. A thread
    that starts while another is held would believe that there is only one; hence all threads of the process
    share this object. It has one instance, below, and only the two functions of this file use it.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.holders = 0  # blocks `torch_on_one`, of all threads, that are being executed
        self.all = 0  # what torch had before the first of them began
        self.of_thread = local()  # .blocks: how many of them are this thread's

    def for_passes(self) -> int:
        with self.lock:
            return self.all if self.holders else torch.get_num_threads()

    def hold(self) -> None:
        with self.lock:
            before = torch.get_num_threads()  # in a new thread only this makes the number its own
            self.all = self.all if self.holders else before
            self.holders += 1
            self.of_thread.blocks = getattr(self.of_thread, "blocks", 0) + 1
            torch.set_num_threads(1)

    def let_go(self) -> None:
        with self.lock:
            self.holders -= 1
            self.of_thread.blocks -= 1
            if self.of_thread.blocks == 0:
                torch.set_num_threads(self.all)


_threads = _Threads()


def usable_cores() -> int:
    """Number of cores; where a container or `taskset` allows fewer, that number."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def in_order(work: Callable[[Item], Result], items: Sequence[Item], most: int) -> Iterator[Result]:
    """What `work` makes of each item, in their order: as many at once as there are threads, each on one.

    No more than two a thread are begun or wait to be taken, so that memory is bounded. Threads
    keep no gradients.

    Args:
        most: how many at once; below 2, or where there is one thread or item, one after the other in this
            thread and with its gradients.
    """
    if (count := min(most, pass_threads(), len(items))) < 2:
        yield from map(work, items)
        return

    def on_one(item: Item) -> Result:
        with torch_on_one(), torch.no_grad():
            return work(item)

    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for item in items:
            begun.append(pool.submit(on_one, item))
            if len(begun) == 2 * count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
