"""Some of many things, where all would take too long."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def some_of(items: Sequence[Item], most: int) -> list[Item]:
    """Up to `most` of the items, evenly spread."""
    return [items[i] for i in sorted({i * len(items) // most for i in range(most if items else 0)})]
