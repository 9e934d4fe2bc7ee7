"""Two towers at once give what one after the other gives."""

from __future__ import annotations

import threading

import pytest
import torch

from tijepa.objectives.forward import run_parallel


@pytest.mark.parametrize("threads", [0, 1])
def test_both_results_come_back_in_order(threads: int) -> None:
    assert run_parallel(lambda: 1, lambda: "two", threads=threads) == (1, "two")


def test_in_parallel_each_waits_for_the_other_to_begin() -> None:
    """A barrier of two is passed only where both run at the same time."""
    barrier = threading.Barrier(2, timeout=20)
    first, second = run_parallel(barrier.wait, barrier.wait, threads=1)
    assert {first, second} == {0, 1}


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("bad", ["first", "second"])
def test_an_error_of_either_is_raised(threads: int, bad: str) -> None:
    def fail() -> None:
        raise ArithmeticError(bad)

    def work() -> None:
        return None

    with pytest.raises(ArithmeticError, match=bad):
        run_parallel(
            fail if bad == "first" else work, fail if bad == "second" else work, threads=threads
        )


def test_the_other_thread_has_ended_before_an_error_is_raised() -> None:
    done = threading.Event()
    started = threading.Event()

    def fail() -> None:
        started.wait(20)
        raise ArithmeticError

    def slow() -> None:
        started.set()
        threading.Event().wait(0.05)
        done.set()

    with pytest.raises(ArithmeticError):
        run_parallel(fail, slow, threads=1)
    assert done.is_set()


def test_each_runs_on_its_own_number_of_threads_and_the_caller_gets_its_own_back() -> None:
    before = torch.get_num_threads()
    assert run_parallel(torch.get_num_threads, torch.get_num_threads, threads=3) == (3, 3)
    assert torch.get_num_threads() == before
