"""Who works on how many threads."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
import torch

from cocogs.threads import pass_threads, torch_on_one


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_passes_keep_the_threads_that_torch_gives_up() -> None:
    assert pass_threads() == 3
    with torch_on_one():
        assert (torch.get_num_threads(), pass_threads()) == (1, 3)
        with torch_on_one():
            assert (torch.get_num_threads(), pass_threads()) == (1, 3)
        assert (torch.get_num_threads(), pass_threads()) == (1, 3)
    assert (torch.get_num_threads(), pass_threads()) == (3, 3)


def test_threads_of_the_process_share_the_number() -> None:
    """Two trainings at once: the passes of both get all threads, whichever ends first."""
    seen: list[tuple[int, int]] = []
    entered, leave = Event(), Event()

    def train() -> None:
        with torch_on_one():
            entered.set()
            assert leave.wait(60)
            seen.append((torch.get_num_threads(), pass_threads()))
        seen.append((torch.get_num_threads(), pass_threads()))

    with torch_on_one():
        other = Thread(target=train)
        other.start()
        assert entered.wait(60)
    assert pass_threads() == 3
    leave.set()
    other.join()
    assert seen == [(1, 3), (3, 3)]
    assert (torch.get_num_threads(), pass_threads()) == (3, 3)


def test_unwanted_it_changes_nothing() -> None:
    with torch_on_one(False):
        assert (torch.get_num_threads(), pass_threads()) == (3, 3)


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), torch_on_one():
        raise KeyError
    assert (torch.get_num_threads(), pass_threads()) == (3, 3)
