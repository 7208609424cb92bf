"""Training steps on a GPU, recorded as CUDA graphs and replayed.

A step is hundreds of small operations. Asking for them takes Python several times as long as a GPU takes to
do them; a replay asks once. It gives the same bits. A recording reads and writes the same memory each time,
where it finds one photo after another (`shot.Slots`).
"""

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from cocogs.rasterize.room import MOST_INTERSECTIONS, Room, use_room

SPARE = 1.5  # a recording's memory for intersections, as a multiple of what any photo needed last
CHECK_EVERY = 20  # replays; reading how full the memory is waits for the device, so not after every one


Arguments = tuple[Hashable, ...]  # of a step
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
    """Runs steps on photos. The first step on each photo, and the first of each kind, runs as it is and tells
    how much memory it needs. Later ones are recorded, once for all photos, and replayed.

    Args:
        step: does a step of a kind on the photo whose number `photo` holds; returns numbers (R,). It may only
            read tensors that stay where they are, learning rates included.
        photo: (1,) on the device, from 0 to `photos` - 1.
        photos: how many there are.
        optimizers: those that the steps move.
        record: how steps are recorded; None for CUDA graphs.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        photo: Int64[Tensor, "1"],
        photos: int,
        optimizers: Mapping[str, torch.optim.Optimizer],
        record: Record | None = None,
    ) -> None:
        self.step, self.photo, self.photos = step, photo, photos
        self.record = CudaRecorder(optimizers, photo.device).record if record is None else record
        # By size: (photos,) on the device, the intersections of the last step on each; 0: not known.
        self.needs: dict[Hashable, Tensor] = {}
        self.seen: set[Hashable] = set()  # (size, photo) and (size, kind), of which a step ran as it is
        self.recordings: dict[tuple[Hashable, Arguments], Recording] = {}
        self.count = 0

    def run(self, photo: int, size: Hashable, *kind: Hashable) -> Tensor:
        """One step.

        Args:
            photo: the number that `photo` holds.
            size: steps of one size need alike amounts of memory for a photo.
            kind: arguments of the step. Each size with each kind has a recording of its own.
        """
        if size not in self.needs:
            self.needs[size] = torch.zeros(self.photos, dtype=torch.long, device=self.photo.device)
        if not {(size, photo), (size, kind)} <= self.seen:
            self.seen |= {(size, photo), (size, kind)}
            return self._measured(size, kind)
        if (size, kind) not in self.recordings:
            self.recordings[size, kind] = self._record(size, kind)
        recording = self.recordings[size, kind]
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
        for needs in self.needs.values():
            needs.copy_(needs.double().mul(growth).ceil())
        self.recordings.clear()

    def _measured(self, size: Hashable, kind: Arguments) -> Tensor:
        """A step as it is."""
        room = Room(self.photo.device)
        with use_room(room):
            numbers = self.step(*kind)
        self.needs[size].index_fill_(0, self.photo, room.most or 0)
        return numbers

    def _record(self, size: Hashable, kind: Arguments) -> Recording:
        needs = self.needs[size]
        room = Room(self.photo.device, min(int(SPARE * int(needs.max())), MOST_INTERSECTIONS))

        def step() -> Tensor:
            numbers = self.step(*kind)
            needs.index_copy_(0, self.photo, room.needed)
            return numbers

        with use_room(room):
            return Recording(*self.record(step), room)

    def _make_room(self) -> None:
        """Drops the recordings that are about to need more memory than they have; they are made anew."""
        most = {size: int(needs.max()) for size, needs in self.needs.items()}
        for (size, kind), recording in list(self.recordings.items()):
            assert recording.room.most is not None
            if most[size] > 0.9 * recording.room.most:
                del self.recordings[size, kind]
