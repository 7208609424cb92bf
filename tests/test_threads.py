"""Who works on how many threads."""

from collections.abc import Iterator

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


def test_unwanted_it_changes_nothing() -> None:
    with torch_on_one(False):
        assert (torch.get_num_threads(), pass_threads()) == (3, 3)


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), torch_on_one():
        raise KeyError
    assert (torch.get_num_threads(), pass_threads()) == (3, 3)
