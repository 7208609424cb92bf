"""Several processes that train one scene, started by torchrun: what they add up, and how they end together.

Each process is a rank. All hold the same splats. The only file that knows torch.distributed.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from cocogs.errors import InputError, counted
from cocogs.signals import handled

T = TypeVar("T")

PATIENCE = 1800.0  # seconds; a rank that takes longer to its next message is taken for lost
GRACE = 5.0  # seconds that ranks wait for each other's last words
LINGER = 1.0  # seconds that quiet ranks leave the one that speaks: once one has ended, torchrun ends all
LARGE = 1 << 18  # numbers; smaller tensors are added up in one message


class RankLost(Exception):
    """Another rank has ended, or does not answer any more."""


class Ranks:
    """The processes of a training. This class is a process alone, which waits for nobody."""

    rank = 0
    count = 1
    on_machine = 1
    """Ranks on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this rank prepares the folder, speaks to the user and writes the results."""
        return self.rank == 0

    def check_batch(self, batch: int) -> None:
        """Raises InputError unless every rank gets as many photos of a step as the others."""
        if batch % self.count:
            raise InputError(
                f"{self.count} processes cannot share a `batch` of {counted(batch, 'photo')} evenly: give a "
                f"multiple of {self.count}, or start another number of processes."
            )

    def own(self, batch: list[T]) -> list[T]:
        """What this rank takes of a batch."""
        return batch[self.rank :: self.count]

    def use(self, device: torch.device) -> None:
        """Compute on `device`: of several GPUs of a machine, each rank on its own.

        Raises:
            InputError: there are more ranks than GPUs, or ranks on a CPU beside ranks on a GPU.
        """

    def in_turn(self, work: Callable[[], T]) -> T:
        """Rank 0 works first, as long as it takes, and then the others: they find in files what it made."""
        return work()

    def from_first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank. It travels as a pickle."""
        return make()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks: the same bits on all of them."""

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank. Every rank has then done all that it did before its call."""
        return flag

    def check_same(self, numbers: Tensor, what: str) -> None:
        """Raises InputError unless all ranks have the same `numbers` (K,)."""


class TorchrunRanks(Ranks):
    """The processes that torchrun started, over a network.

    Small messages go by Gloo, whatever the device: an operation of NCCL that lacks a partner hangs in the
    GPU, while Gloo raises an error when a connection ends. Before a rank waits for its GPU, it asks by `any`
    whether all have come as far.
    """

    def __init__(self) -> None:
        self.patience, self.turns = timedelta(seconds=PATIENCE), 0
        self.machine, self.on_machine = int(os.environ["GROUP_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        self.store, self.rank, self.count = next(iter(rendezvous("env://", timeout=self.patience)))
        self.store.set(f"host/{self.rank}", socket.gethostname())
        dist.init_process_group(
            "gloo", store=self.store, rank=self.rank, world_size=self.count, timeout=self.patience
        )
        self.device_group: dist.ProcessGroup | None = None  # the one of Gloo

    def use(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        if self.any(on_gpu) and self.any(not on_gpu):
            raise InputError(
                "Some ranks found a GPU and others did not: give `device` cpu, or use machines that have one."
            )
        if not on_gpu:
            return
        short = self.on_machine > torch.cuda.device_count()
        if self.any(short):
            raise InputError(
                f"A machine runs more ranks than it has GPUs (here {self.on_machine} on "
                f"{torch.cuda.device_count()}): start one rank for each GPU, or give `device` cpu."
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        group = dist.new_group(backend="nccl", timeout=self.patience)
        assert isinstance(group, dist.ProcessGroup)
        self.device_group = group

    def in_turn(self, work: Callable[[], T]) -> T:
        if not self.is_first:
            self._wait_for_turn()
            return work()
        result = work()
        self._give_turn()
        return result

    def from_first(self, make: Callable[[], T]) -> T:
        made: list = [None]
        if self.is_first:
            made = [make()]
            self._give_turn()
        else:
            self._wait_for_turn()
        with _network():
            dist.broadcast_object_list(made, src=0)
        return made[0]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        alone = [tensor.numel() >= LARGE and tensor.is_contiguous() for tensor in tensors]
        large = [tensor for tensor, is_alone in zip(tensors, alone, strict=True) if is_alone]
        small = [tensor for tensor, is_alone in zip(tensors, alone, strict=True) if not is_alone]
        together = [torch.cat([tensor.reshape(-1) for tensor in small])] if small else []
        with _network():
            tasks = [
                dist.all_reduce(tensor, group=self.device_group, async_op=True)
                for tensor in [*large, *together]
            ]
            for task in tasks:
                assert task is not None
                task.wait()
        for flat in together:
            parts = flat.split([tensor.numel() for tensor in small])
            for tensor, part in zip(small, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([float(flag)])
        with _network():
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def check_same(self, numbers: Tensor, what: str) -> None:
        numbers = numbers.detach().double().cpu()
        most = torch.cat([numbers, -numbers])
        with _network():
            dist.all_reduce(most, op=dist.ReduceOp.MAX)
        largest, smallest = most.chunk(2)
        if not torch.equal(largest, -smallest):
            raise InputError(
                f"The ranks no longer hold the same {what}: use processors of one kind and the same torch "
                "for all of them. What was saved before is kept: continue it with `resume`."
            )

    def _give_turn(self) -> None:
        self.turns += 1
        with _network():
            self.store.set(f"turn/{self.turns}", "")

    def _wait_for_turn(self) -> None:
        """Without an end: a structure from motion may take hours."""
        self.turns += 1
        with _network():
            while not self.store.check([f"turn/{self.turns}"]):
                if self.store.check(["end/0"]):
                    raise RankLost
                time.sleep(0.1)

    def leave(self) -> None:
        """Close the connections, so that ranks which wait for this one end too."""
        if self.device_group is None:  # NCCL would wait for what its GPU still does; it ends with the process
            dist.destroy_process_group()

    def last_words(self, error: BaseException) -> BaseException:
        """What this rank is to raise instead of `error`, so that one rank of a machine tells the user why all
        end. Ranks leave each other their reasons in the store, which is torchrun's and outlives them."""
        told = isinstance(error, SystemExit | KeyboardInterrupt)  # by a signal
        quiet = SystemExit(getattr(error, "code", 130) if told else 2)
        reason = "" if told or isinstance(error, RankLost) else str(error) or type(error).__name__
        try:
            ends = self._exchange({"reason": reason, "machine": self.machine})
            hosts = [self.store.get(f"host/{rank}").decode() for rank in range(self.count)]
        except RuntimeError:  # torchrun of the first machine has ended, and its store with it
            return error if told or reason else InputError(LOST.format("The machine of rank 0"))
        reasons = [rank for rank, end in ends.items() if end["reason"]]
        silent = [rank for rank in range(self.count) if rank not in ends]
        here = [rank for rank, end in ends.items() if end["machine"] == self.machine]
        speaker = reasons[0] if reasons and reasons[0] in here else here[0]
        if speaker != self.rank:
            time.sleep(LINGER)
            return quiet
        if reason or (told and not silent and not reasons):
            return error
        if reasons:
            return InputError(f"Rank {reasons[0]} on {hosts[reasons[0]]} ended: {ends[reasons[0]]['reason']}")
        lost = f"Rank {silent[0]} on {hosts[silent[0]]}" if silent else "The network between the ranks"
        return InputError(LOST.format(lost))

    def _exchange(self, end: dict) -> dict[int, dict]:
        """The ends of all ranks that leave one within `GRACE`, by rank."""
        self.store.set(f"end/{self.rank}", json.dumps(end))
        late = time.monotonic() + GRACE
        while True:
            there = [rank for rank in range(self.count) if self.store.check([f"end/{rank}"])]
            if len(there) == self.count or time.monotonic() > late:
                return {rank: json.loads(self.store.get(f"end/{rank}")) for rank in there}
            time.sleep(0.05)


LOST = (
    "{} ended or does not answer any more, and so all ranks end: perhaps memory ran out. What was saved is "
    "kept: continue it with `resume`."
)


@contextmanager
def _network() -> Iterator[None]:
    """Raises RankLost for errors of the network, which torch raises as RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(str(error)) from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that torchrun started together with this one; without torchrun, this one alone.

    All leave together. If one of them fails, one rank of each machine raises an error that says why, and the
    others raise SystemExit.

    Raises:
        InputError: a rank was lost.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    try:
        with _network():
            ranks = TorchrunRanks()
    except RankLost as error:
        raise InputError(f"The ranks do not find each other ({error}): see docs/many-gpus.md.") from error
    try:
        yield ranks
        # torchrun sends SIGTERM once one has ended with a code that is not 0; here all have done their work.
        with handled(lambda number, frame: None):
            ranks.any(False)
            ranks.leave()
    except BaseException as error:
        with handled(lambda number, frame: None, signal.SIGINT):  # torchrun sends SIGTERM once one has ended
            ranks.leave()
            last = ranks.last_words(error)
        if last is error:
            raise
        raise last from error
