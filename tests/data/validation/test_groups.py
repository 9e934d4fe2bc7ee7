from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.validation.near import equal_rows, numbered


def rows(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_rows_that_agree_in_all_keys_have_the_same_number() -> None:
    number = numbered(rows([1, 1, 2, 1]), rows([5, 6, 5, 5]))
    assert number[0] == number[3]
    assert len(set(number.tolist())) == 3


def test_groups_come_by_their_first_row() -> None:
    """Value 9 stands in rows 0 and 4, value 3 in rows 1, 2; value 7 alone."""
    groups = equal_rows(np.arange(5), rows([9, 3, 3, 7, 9]))
    assert [group.tolist() for group in groups] == [[0, 4], [1, 2]]
    assert len(groups) == 2


def test_only_some_rows_may_be_looked_at() -> None:
    groups = equal_rows(rows([1, 4]), rows([9, 9, 9, 9, 9]))
    assert [group.tolist() for group in groups] == [[1, 4]]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30))
def test_groups_are_those_of_a_dictionary(pairs: list[tuple[int, int]]) -> None:
    key, other = rows([a for a, _ in pairs]), rows([b for _, b in pairs])
    expected = defaultdict(list)
    for row, (value, _) in enumerate(pairs):
        expected[value].append(row)
    twice = sorted(group for group in expected.values() if len(group) > 1)
    differing = [group for group in twice if len({pairs[row][1] for row in group}) > 1]
    everything = np.arange(len(pairs))
    assert [g.tolist() for g in equal_rows(everything, key)] == twice
    found = equal_rows(everything, key, differing_in=other)
    assert [group.tolist() for group in found] == differing
    assert len(found.rows) == sum(map(len, differing))
