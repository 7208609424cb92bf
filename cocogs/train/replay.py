"""Training steps on a GPU, recorded as CUDA graphs and replayed.

A step is hundreds of small operations. Asking for them takes Python several times as long as a GPU takes to
do them; a replay asks once. It gives the same bits. A recording reads and writes the same memory each time.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from cocogs.rasterize.room import MOST_INTERSECTIONS, Room, use_room

SPARE = 1.5  # a recording's memory for intersections, as a multiple of what its kind needed at most
CHECK_EVERY = 20  # replays; reading how full the memory is waits for the device, so not after every one


Kind = tuple[Hashable, ...]
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""From a step: a function that replays it, and the tensor in which a replay leaves the step's numbers."""


class CudaRecorder:
    """Records CUDA graphs.

    Args:
        optimizers: those that the steps move.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer], device: torch.device) -> None:
        self.optimizers, self.device = optimizers, device
        self.stream = torch.cuda.Stream(device)
        # All recordings use the same memory, one after another. It lives as long as one of them does.
        self.pool = torch.cuda.graph_pool_handle()
        self.keeper, _ = self.record(lambda: torch.zeros(1, device=device))

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Record`."""
        # Not torch.cuda.graph, which empties torch's cache of memory each time.
        graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        self._expect_recording(True)
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.pool)
            try:
                numbers = step()
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        self._expect_recording(False)
        return graph.replay, numbers

    def _expect_recording(self, expect: bool) -> None:
        """torch wants to know beforehand, and warns where nothing is recorded then."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = expect


@dataclass
class Recording:
    """A step of one kind: `again` leaves its numbers in `numbers`, within the memory of `room`.

    `needed`: (1,) int64 on the device, the most intersections of a replay so far.
    """

    again: Callable[[], None]
    numbers: Tensor
    room: Room
    needed: Tensor


class Replay:
    """Runs steps of some kinds again and again. It runs the first steps of each kind as they are and notes
    how much memory they need, records the next one, and replays the recording from then on.

    Args:
        step: does a step, given the parts of a kind and more as arguments; returns numbers (R,). It may only
            read tensors that stay where they are, learning rates included.
        optimizers: those that the step moves.
        photos: how many first steps of a kind run as they are: each photo needs an amount of its own.
        record: how steps are recorded; None for CUDA graphs.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        optimizers: Mapping[str, torch.optim.Optimizer],
        device: torch.device,
        photos: int = 1,
        record: Record | None = None,
    ) -> None:
        self.step, self.device, self.photos = step, device, photos
        self.record = CudaRecorder(optimizers, device).record if record is None else record
        self.steps: Counter[Kind] = Counter()
        self.needs: dict[Kind, float] = {}  # intersections
        self.recordings: dict[tuple[Kind, Kind], Recording] = {}
        self.count = 0

    def run(self, kind: Kind, *rest: Hashable) -> Tensor:
        """One step.

        Args:
            kind: what decides how much memory it needs.
            rest: what decides the rest of it. Each kind with each rest has a recording of its own.
        """
        self.steps[kind] += 1
        if self.steps[kind] <= self.photos:
            room = Room(self.device)
            with use_room(room):
                numbers = self.step(*kind, *rest)
            self.needs[kind] = max(self.needs.get(kind, 0), room.most or 0)
            return numbers
        if (kind, rest) not in self.recordings:
            self.recordings[kind, rest] = self._record(kind, rest)
        recording = self.recordings[kind, rest]
        recording.again()
        numbers = recording.numbers.clone()
        self.count += 1
        if self.count % CHECK_EVERY == 0:
            self._make_room()
        return numbers

    def forget(self, growth: float) -> None:
        """Drops all recordings. Call this when tensors of the step were replaced.

        Args:
            growth: by how much more memory the steps will need, as a guess.
        """
        self._look()
        self.needs = {kind: growth * need for kind, need in self.needs.items()}
        self.recordings.clear()

    def _record(self, kind: Kind, rest: Kind) -> Recording:
        room = Room(self.device, min(int(SPARE * self.needs[kind]), MOST_INTERSECTIONS))
        needed = torch.zeros_like(room.needed)

        def step() -> Tensor:
            numbers = self.step(*kind, *rest)
            torch.maximum(needed, room.needed, out=needed)
            return numbers

        with use_room(room):
            again, numbers = self.record(step)
        return Recording(again, numbers, room, needed)

    def _look(self) -> None:
        """Notes what the recordings of each kind needed at most."""
        if self.recordings:
            needed = torch.cat([recording.needed for recording in self.recordings.values()]).tolist()
            for kind in {kind for kind, _ in self.recordings}:
                own = [n for (k, _), n in zip(self.recordings, needed, strict=True) if k == kind]
                self.needs[kind] = max(own) or self.needs[kind]

    def _make_room(self) -> None:
        """Drops the recordings that are about to need more memory than they have; they are made anew."""
        self._look()
        for (kind, rest), recording in list(self.recordings.items()):
            assert recording.room.most is not None
            if self.needs[kind] > 0.9 * recording.room.most:
                del self.recordings[kind, rest]
