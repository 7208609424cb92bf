"""How much memory a pass on a GPU may use for its lists of tiles, decided beforehand.

This file owns the only ambient setting of the rasterizer: the room of the passes of this thread, `use_room`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

MOST_INTERSECTIONS = 2**31 - 1
"""Splats and tiles meet at most so often in one pass on a GPU: 32 bits number the meetings."""


class Room:
    """Memory for a number of intersections of splats with tiles.

    A pass without a room waits for the GPU to learn that number. A pass with a room does not wait, so that a
    CUDA graph can record it. The farthest splats, for which the room is too small, are not drawn.

    Attributes:
        most: intersections; None where the number is not known yet. The pass waits then and notes it here.
        needed: (1,) int64 on the device, the last pass's number; larger than `most` where splats are missing.
    """

    def __init__(self, device: torch.device, most: int | None = None) -> None:
        self.most = most
        self.needed = torch.zeros(1, dtype=torch.int64, device=device)

    def limit(self) -> tuple[int, int]:
        """`most` and the address of `needed`, for a pass that does not wait; two zeros for one that does."""
        return (0, 0) if self.most is None else (self.most, self.needed.data_ptr())


_room: ContextVar[Room | None] = ContextVar("room", default=None)


@contextmanager
def use_room(room: Room) -> Iterator[None]:
    """Inside, the forward passes that this thread asks for keep to `room`. Other threads do not see it."""
    token = _room.set(room)
    try:
        yield
    finally:
        _room.reset(token)


def current_room() -> Room | None:
    """The room that `use_room` set in this thread."""
    return _room.get()
