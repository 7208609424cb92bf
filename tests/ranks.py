"""Ranks as torchrun starts them, forked from a process that has imported cocogs: in a second, not in ten."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from cocogs import distributed, run
from cocogs.errors import InputError

SLOW = ("torch._dynamo", "torch.utils.tensorboard", "scipy.spatial", "scipy.optimize")
"""Modules that a training imports on its way, and that take seconds."""
Setup = Callable[[int], None]
"""Changes a rank, given by its number, before it runs the command. It must be a function of a module."""


@cache
def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["cocogs.cli", "cocogs.train.trainer", "ranks", *SLOW])
    return made


@dataclass
class Ranks:
    """`cocogs` with the same arguments in several processes.

    Args:
        machines: over which the ranks are spread evenly, in name.
    """

    count: int
    arguments: Sequence[object]
    folder: Path
    setup: Setup | None = None
    machines: int = 1
    processes: list[ForkServerProcess] = field(default_factory=list)

    def start(self) -> "Ranks":
        self.folder.mkdir(parents=True, exist_ok=True)
        # That of torchrun: it outlives the ranks.
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        each = self.count // self.machines
        for rank in range(self.count):
            environment = {
                "RANK": rank, "WORLD_SIZE": self.count, "LOCAL_RANK": rank % each, "LOCAL_WORLD_SIZE": each,
                "GROUP_RANK": rank // each, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.store.port,
                "TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": 0, "OMP_NUM_THREADS": 1, "GLOO_SOCKET_IFNAME": "lo",
            }  # fmt: skip
            words = {name: str(value) for name, value in environment.items()}
            arguments = (
                words,
                [str(word) for word in self.arguments],
                self.folder / f"rank{rank}",
                self.setup,
            )
            process = context().Process(target=run_rank, args=arguments)
            process.start()
            self.processes.append(process)
        return self

    def end(self) -> tuple[list[int | None], list[str], list[str]]:
        """Exit codes, outputs and errors of the ranks. As torchrun does, it ends all once one has failed."""
        deadline, told = time.monotonic() + 120, False
        while any(process.is_alive() for process in self.processes):
            if not told and any(process.exitcode for process in self.processes):
                told, deadline = True, time.monotonic() + 20
                for process in self.processes:
                    process.terminate()
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for process in self.processes:
            process.kill()
            process.join()
        codes = [process.exitcode for process in self.processes]
        outputs, errors = (
            [(self.folder / f"rank{rank}.{kind}").read_text() for rank in range(self.count)]
            for kind in ("out", "err")
        )
        return codes, outputs, errors


def run_rank(environment: dict[str, str], arguments: list[str], log: Path, setup: Setup | None) -> None:
    """In a process of its own."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    for stream, kind in ((sys.stdout, "out"), (sys.stderr, "err")):
        file = os.open(f"{log}.{kind}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, stream.fileno())
    from cocogs.cli import main

    if setup is not None:
        setup(int(environment["RANK"]))
    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)


def at_photo(step: int, act: Callable[[], Any]) -> None:
    """Have the training of this process do something before its first step after so many photos."""
    from cocogs.train.trainer import Trainer

    original, done = Trainer.next_batch, []

    def next_batch(self: Trainer) -> list[int]:
        if self.step >= step and not done:
            done.append(act())
        return original(self)

    Trainer.next_batch = next_batch  # type: ignore[method-assign]


def raise_signal(number: int) -> None:
    os.kill(os.getpid(), number)


def stop_second(rank: int) -> None:
    if rank == 1:
        at_photo(12, lambda: raise_signal(signal.SIGTERM))


def kill_second(rank: int) -> None:
    if rank == 1:
        at_photo(8, lambda: raise_signal(signal.SIGKILL))


def kill_first(rank: int) -> None:
    if rank == 0:
        at_photo(8, lambda: raise_signal(signal.SIGKILL))


def kill_first_early(rank: int) -> None:
    """While it opens the photos, and the others wait for it."""
    if rank == 0:
        run.open_data = lambda *_, **__: raise_signal(signal.SIGKILL)  # type: ignore[assignment]


def freeze_second(rank: int) -> None:
    distributed.PATIENCE = 3.0
    if rank == 1:
        at_photo(8, lambda: raise_signal(signal.SIGSTOP))


def fail_second(rank: int) -> None:
    if rank == 1:
        at_photo(8, fail)


def fail() -> None:
    raise InputError("photo.png is damaged: `downscale` it.")


def differ(rank: int) -> None:
    """Rank 1 draws something at random that the others do not."""
    if rank == 1:
        at_photo(8, lambda: torch.rand(1))
