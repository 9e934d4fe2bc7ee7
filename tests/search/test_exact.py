"""The lowest energies, found by computing all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tijepa.search import exact
from tijepa.search.exact import exact_search, rerank

VALUES = np.array([[1, 0], [0, 1], [2, 0], [-1, 3]], np.float32)


def test_products_by_hand() -> None:
    """With (1, 1) the products are 1, 1, 2, 2: rows 2 and 3 tie and come by position, then 0."""
    found = exact_search(VALUES, np.array([[1, 1]], np.float32), 3)
    assert found.positions.tolist() == [[2, 3, 0]]
    assert found.scores.tolist() == [[2, 2, 1]]


def test_only_allowed_positions_are_found_and_fewer_than_k_where_there_are_fewer() -> None:
    found = exact_search(VALUES, np.array([[1, 1]], np.float32), 9, np.array([0, 3]))
    assert found.positions.tolist() == [[3, 0]]
    none = exact_search(VALUES, np.array([[1, 1]], np.float32), 9, np.array([], np.int64))
    assert none.positions.shape == (1, 0)


def test_places_without_a_candidate_come_last() -> None:
    found = rerank(VALUES, np.array([[0, 1]], np.float32), np.array([[-1, 0, 3]]), 3)
    assert found.positions.tolist() == [[3, 0, -1]]
    assert found.scores.tolist() == [[3, 0, -np.inf]]


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (23, 3), elements=st.integers(-4, 4)),
    arrays(np.float32, (2, 3), elements=st.integers(-4, 4)),
    st.integers(1, 25),
    st.integers(1, 9),
)
def test_blocks_change_nothing(values: np.ndarray, queries: np.ndarray, k: int, block: int) -> None:
    """Products of the k best equal those of a full sort, however the rows are cut into blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK", block)
        found = exact_search(values, queries, k)
    by_hand = -np.sort(-(queries.astype(float) @ values.astype(float).T), axis=1)[:, :k]
    assert np.array_equal(found.scores, by_hand)


def test_alike_are_rows_of_one_direction_whatever_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """(1, 0) with (5, 0) is 1, with (1, 1) √½, with (0, 2) 0, with (−1, 0) −1; two rows a block."""
    monkeypatch.setattr(exact, "_BLOCK", 2)
    values = np.array([[-1, 0], [0, 2], [5, 0], [1, 1], [0, 0]], np.float32)
    found = exact.most_alike(values, np.array([[1, 0]], np.float32), 4)
    assert found.positions.tolist() == [[2, 3, 1, 4]]
    assert found.scores[0] == pytest.approx([1, 0.5**0.5, 0, 0], abs=1e-6)
    some = exact.most_alike(values, np.array([[1, 0]], np.float32), 4, np.array([0, 3]))
    assert some.positions.tolist() == [[3, 0]]
