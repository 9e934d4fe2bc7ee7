"""Pictures and texts that choose each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.errors import DataError
from tijepa.search import partners
from tijepa.search.partners import find_partners, match_in_rounds, mutual_nearest
from tijepa.search.shelf import Chunk, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Row 0 is a pair, rows 1 and 2 are pictures, rows 3 (two captions) and 4 are texts."""
    made = Shelf(tmp_path / "shelf", 2)
    made.append(
        Chunk(0, 5, "", 3, 4, 0),
        {
            "images": np.array([[9, 9], [1, 0], [2, 1]], np.float32),
            "texts": np.array([[9, 9], [4, 0], [0, 2], [1, 0]], np.float32),
        },
        {"images": np.array([0, 1, 2]), "texts": np.array([0, 3, 3, 4])},
    )
    return made


def test_partners_by_hand(shelf: Shelf) -> None:
    """The captions of row 3 have the mean (2, 1). Products of the pictures (1, 0), (2, 1) with it
    and with (1, 0) are 2, 1 and 5, 2: both pictures like row 3 best, both texts the picture of
    row 2. So rows 2 and 3 are a pair of energy −5, and of those left over, in a second round, rows
    1 and 4 one of energy −1."""
    found = find_partners(shelf, "calibrated", np.arange(5), rounds=1)
    assert (found.images, found.texts) == (2, 2)
    assert (found.matches.images.tolist(), found.matches.texts.tolist()) == ([2], [3])
    assert found.matches.energies.tolist() == [-5]
    matches = find_partners(shelf, "cosine", np.arange(5), rounds=9).matches
    assert (matches.images.tolist(), matches.texts.tolist()) == ([2, 1], [3, 4])
    assert matches.energies.tolist() == [-4, 0]
    assert matches.best(0.6).images.tolist() == [2]


def test_only_the_rows_that_were_asked_for_are_matched(shelf: Shelf) -> None:
    matches = find_partners(shelf, "calibrated", np.array([0, 1, 3, 4]), rounds=9).matches
    assert (matches.images.tolist(), matches.texts.tolist()) == ([1], [3])
    with pytest.raises(DataError, match="2 pictures without caption and 0 texts without picture"):
        find_partners(shelf, "calibrated", np.array([0, 1, 2]), rounds=1)


@given(
    images=st.integers(1, 9),
    texts=st.integers(1, 9),
    seed=st.integers(0, 99),
    block=st.integers(1, 4),
)
@settings(deadline=None)
def test_who_chose_each_other_is_largest_in_row_and_column(
    images: int, texts: int, seed: int, block: int
) -> None:
    """Small whole numbers, so that products are exact and some are equal: then the first counts."""
    generator = np.random.default_rng(seed)
    x = generator.integers(-2, 3, (images, 3)).astype(np.float32)
    y = generator.integers(-2, 3, (texts, 3)).astype(np.float32)
    products = x @ y.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partners, "_BLOCK", block)
        found = list(zip(*(places.tolist() for places in mutual_nearest(x, y)), strict=True))
    assert found == [
        (i, int(products[i].argmax()))
        for i in range(images)
        if products[:, products[i].argmax()].argmax() == i
    ]


@given(images=st.integers(1, 9), texts=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_after_enough_rounds_the_smaller_side_is_matched_and_nobody_twice(
    images: int, texts: int, seed: int
) -> None:
    """Each round matches somebody: the pair of the largest product of all. And no picture and text
    would both rather have each other than who they got (a stable matching)."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((images, 4)).astype(np.float32)
    y = generator.standard_normal((texts, 4)).astype(np.float32)
    a, b = match_in_rounds(x, y, rounds=9)
    assert len(a) == min(images, texts)
    assert len(set(a.tolist())) == len(set(b.tolist())) == len(a)
    products = x @ y.T
    mine, theirs = np.full(images, -np.inf), np.full(texts, -np.inf)
    mine[a] = theirs[b] = products[a, b]
    assert not ((products > mine[:, None]) & (products > theirs)).any()
