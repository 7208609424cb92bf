"""Who works on how many threads."""

import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest
import torch

from cocogs import threads
from cocogs.threads import in_order, pass_threads, torch_on_one


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


def test_work_in_threads_comes_back_in_order_and_few_pieces_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "pass_threads", lambda: 3)
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        assert torch.get_num_threads() == 1 and not torch.is_grad_enabled()
        time.sleep(0.01 * (number % 3))
        return number

    results = in_order(work, range(30), 5)
    assert next(results) == 0 and len(begun) <= 7
    assert list(results) == list(range(1, 30)) and sorted(begun) == list(range(30))


def test_an_error_in_a_thread_comes_out_and_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "pass_threads", lambda: 2)
    done: list[int] = []

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        done.append(number)

    with pytest.raises(ValueError, match="three"):
        list(in_order(work, range(100), 5))
    assert len(done) < 12


def test_alone_keeps_gradients() -> None:
    x = torch.ones(3, requires_grad=True)
    assert all(value.requires_grad for value in in_order(lambda i: i * x, range(3), 1))
