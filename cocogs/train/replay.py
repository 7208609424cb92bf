"""Training steps on a GPU, recorded as CUDA graphs and replayed.

A step is hundreds of small operations. Asking for them takes Python several times as long as a GPU takes to
do them; a replay asks once. It gives the same bits. A recording reads and writes the same memory each time.
"""

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from cocogs.rasterize.room import MOST_INTERSECTIONS, Room, use_room

SPARE = 1.5  # a recording's memory for intersections, as a multiple of what its kind needed last
CHECK_EVERY = 20  # replays; reading how full the memory is waits for the device, so not after every one


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
    """A step of one kind: `again` leaves its numbers in `numbers`, within the memory of `room`."""

    again: Callable[[], None]
    numbers: Tensor
    room: Room


class Replay:
    """Runs steps of some kinds again and again. It runs the first step of each kind as it is and notes how
    much memory it needs, records the second one, and replays the recording from then on.

    Args:
        step: does a step, given a kind's parts as arguments; returns numbers (R,). It may only read tensors
            that stay where they are, learning rates included.
        optimizers: those that the step moves.
        record: how steps are recorded; None for CUDA graphs.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        optimizers: Mapping[str, torch.optim.Optimizer],
        device: torch.device,
        record: Record | None = None,
    ) -> None:
        self.step, self.device = step, device
        self.record = CudaRecorder(optimizers, device).record if record is None else record
        self.needs: dict[tuple[Hashable, ...], float] = {}  # intersections, by kind
        self.recordings: dict[tuple[Hashable, ...], Recording] = {}
        self.count = 0

    def run(self, kind: tuple[Hashable, ...]) -> Tensor:
        """One step. Each kind has a recording of its own."""
        if kind not in self.needs:
            room = Room(self.device)
            with use_room(room):
                numbers = self.step(*kind)
            self.needs[kind] = room.most or 0
            return numbers
        if kind not in self.recordings:
            self.recordings[kind] = self._record(kind)
        recording = self.recordings[kind]
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

    def _record(self, kind: tuple[Hashable, ...]) -> Recording:
        room = Room(self.device, min(int(SPARE * self.needs[kind]), MOST_INTERSECTIONS))
        with use_room(room):
            again, numbers = self.record(lambda: self.step(*kind))
        return Recording(again, numbers, room)

    def _look(self) -> None:
        """Notes what the recordings needed last."""
        if self.recordings:
            needed = torch.cat([recording.room.needed for recording in self.recordings.values()])
            self.needs |= zip(self.recordings, needed.tolist(), strict=True)

    def _make_room(self) -> None:
        """Drops the recordings that are about to need more memory than they have; they are made anew."""
        self._look()
        for kind, recording in list(self.recordings.items()):
            assert recording.room.most is not None
            if self.needs[kind] > 0.9 * recording.room.most:
                del self.recordings[kind]
