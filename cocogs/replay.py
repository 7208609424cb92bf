"""Training steps on a GPU, recorded as CUDA graphs and replayed.

A step is hundreds of small operations, and asking for them takes Python several times as long as a GPU takes
to do them. A replay asks once. It does the same to the last bit; what it reads and writes must stay where it
is.
"""

from collections.abc import Callable, Hashable
from contextlib import suppress

import torch
from torch import Tensor

from cocogs.rasterize.native_cuda import Room, use_room

SPARE = 1.5  # a recording's memory for intersections, as a multiple of what the step before it needed
CHECK_EVERY = 20  # replays; reading how full the memory is waits for the device, so not after every one


class Replay:
    """Runs steps of a few kinds again and again: the first of each kind as it is, while its need of memory
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
        self.rooms: dict[Hashable, Room] = {}
        self.recordings: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.count = 0
        self.stream = torch.cuda.Stream(device)
        # All recordings use the same memory, one after another. It lives as long as one of them does.
        self.pool = torch.cuda.graph_pool_handle()
        self.keeper, _ = self._record(lambda: torch.zeros(1, device=device))

    def forget(self) -> None:
        """To be called when tensors of the step were replaced."""
        self.rooms.clear()
        self.recordings.clear()

    def run(self, *arguments: Hashable) -> Tensor:
        """One step, of the kind that its arguments name."""
        if arguments not in self.rooms:
            room = Room(self.device)
            with use_room(room):
                numbers = self.step(*arguments)
            self.rooms[arguments] = room
            return numbers
        if arguments not in self.recordings:
            room = self.rooms[arguments]
            assert room.most is not None
            room.most = int(SPARE * room.most)
            with use_room(room):
                self.recordings[arguments] = self._record(lambda: self.step(*arguments))
        graph, numbers = self.recordings[arguments]
        graph.replay()
        self.count += 1
        if self.count % CHECK_EVERY == 0:
            self._check_rooms()
        return numbers.clone()

    def _record(self, step: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # Not torch.cuda.graph, which empties torch's cache of memory each time.
        graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["capturable"] = True
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.pool)
            try:
                numbers = step()
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["capturable"] = False
        return graph, numbers

    def _check_rooms(self) -> None:
        """Records anew what is about to need more memory than it has."""
        kinds = list(self.recordings)
        needed = torch.cat([self.rooms[kind].needed for kind in kinds]).tolist()
        for kind, need in zip(kinds, needed, strict=True):
            most = self.rooms[kind].most
            assert most is not None
            if need > 0.9 * most:
                del self.recordings[kind]
                self.rooms[kind].most = need
