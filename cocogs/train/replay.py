"""Training steps on a GPU, recorded as CUDA graphs and replayed.

A step is hundreds of small operations, and asking for them takes Python several times as long as a GPU takes
to do them. A replay asks once. It does the same to the last bit; what it reads and writes must stay where it
is.
"""

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from cocogs.rasterize.room import MOST_INTERSECTIONS, Room, use_room

SPARE = 1.5  # a recording's memory for intersections, as a multiple of what its kind needed last
CHECK_EVERY = 20  # replays; reading how full the memory is waits for the device, so not after every one


@dataclass
class Recording:
    """A step of one kind: replaying `graph` leaves its numbers in `numbers`, within the memory of `room`."""

    graph: torch.cuda.CUDAGraph
    numbers: Tensor
    room: Room


class Replay:
    """Runs steps of some kinds again and again: the first of each kind as it is, while its need of memory
    is noted; the second is recorded; from then on they are replayed.

    Args:
        step: all of a step, for some arguments; returns numbers, (R,).
        optimizers: those that it moves. Learning rates that change must be tensors.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        optimizers: dict[str, torch.optim.Optimizer],
        device: torch.device,
    ) -> None:
        self.step, self.optimizers, self.device = step, optimizers, device
        self.needs: dict[Hashable, float] = {}  # intersections, by kind
        self.recordings: dict[Hashable, Recording] = {}
        self.count = 0
        self.stream = torch.cuda.Stream(device)
        # All recordings use the same memory, one after another. It lives as long as one of them does.
        self.pool = torch.cuda.graph_pool_handle()
        self.keeper, _ = self._record(lambda: torch.zeros(1, device=device))

    def run(self, *kind: Hashable) -> Tensor:
        """One step, of the kind that its arguments name."""
        if kind not in self.needs:
            room = Room(self.device)
            with use_room(room):
                numbers = self.step(*kind)
            self.needs[kind] = room.most or 0
            return numbers
        if kind not in self.recordings:
            room = Room(self.device, min(int(SPARE * self.needs[kind]), MOST_INTERSECTIONS))
            with use_room(room):
                self.recordings[kind] = Recording(*self._record(lambda: self.step(*kind)), room)
        recording = self.recordings[kind]
        recording.graph.replay()
        self.count += 1
        if self.count % CHECK_EVERY == 0:
            self._make_room()
        return recording.numbers.clone()

    def forget(self, growth: float) -> None:
        """To be called when tensors of the step were replaced: all is recorded anew.

        Args:
            growth: by how much more memory that will want, as a guess.
        """
        self._look()
        self.needs = {kind: growth * need for kind, need in self.needs.items()}
        self.recordings.clear()

    def _record(self, step: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
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
        return graph, numbers

    def _expect_recording(self, expect: bool) -> None:
        """torch wants to be told, and warns when told for nothing."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = expect

    def _look(self) -> None:
        """Note what the recordings needed last."""
        if self.recordings:
            needed = torch.cat([recording.room.needed for recording in self.recordings.values()])
            self.needs |= zip(self.recordings, needed.tolist(), strict=True)

    def _make_room(self) -> None:
        """What is about to need more memory than it has will be recorded anew."""
        self._look()
        for kind, recording in list(self.recordings.items()):
            assert recording.room.most is not None
            if self.needs[kind] > 0.9 * recording.room.most:
                del self.recordings[kind]
