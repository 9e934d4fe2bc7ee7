from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.inference.parallel import parallel_map, read_ahead


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=12), st.integers(1, 3))
def test_results_come_in_the_order_of_the_parts(parts: list[int], workers: int) -> None:
    def work(part: int) -> int:
        time.sleep(0.001 * (part % 3))
        return part * 2

    assert list(parallel_map(work, parts, workers)) == [2 * part for part in parts]


def test_parts_run_at_the_same_time_with_one_thread_of_torch_each() -> None:
    """Two parts that wait for each other end only if both are begun."""
    meet = threading.Barrier(2, timeout=10)

    def work(part: int) -> int:
        meet.wait()
        return torch.get_num_threads()

    before = torch.get_num_threads()
    assert list(parallel_map(work, [0, 1], 2)) == [1, 1]
    assert torch.get_num_threads() == before


def test_a_single_part_runs_here() -> None:
    here = threading.get_ident()
    assert list(parallel_map(lambda part: threading.get_ident(), ["a"], 2)) == [here]


def test_an_error_is_raised_and_parts_that_have_not_begun_are_dropped() -> None:
    begun = []

    def work(part: int) -> int:
        begun.append(part)
        if part == 1:
            raise ValueError("part 1")
        time.sleep(0.01)
        return part

    with pytest.raises(ValueError, match="part 1"):
        list(parallel_map(work, range(100), 2))
    assert len(begun) < 20


def test_the_next_part_is_read_while_this_one_is_used() -> None:
    """The second part is read although the first is still held; the third waits for its turn."""
    begun = [threading.Event() for _ in range(3)]

    def read(part: int) -> int:
        begun[part].set()
        return part

    parts = read_ahead(read, range(3))
    assert next(parts) == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    assert list(parts) == [1, 2]
    assert list(read_ahead(read, [])) == []


def test_an_error_of_a_part_that_is_read_ahead_comes_in_its_place() -> None:
    parts = read_ahead(lambda part: 1 // part, [1, 0, 1])
    assert next(parts) == 1
    with pytest.raises(ZeroDivisionError):
        next(parts)
