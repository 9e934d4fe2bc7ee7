"""The energy of captions with their own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tijepa.errors import ConfigError, DataError
from tijepa.search.pair_scores import PairScores, check_keep, keep_best, score_pairs
from tijepa.search.vector_store import Chunk, VectorStore


@pytest.fixture
def vector_store(tmp_path: Path) -> VectorStore:
    """Rows 0, 2 and 3 have images (1, 0), (0, 2), (3, 0); rows 0, 1 and 3 captions, 3 two."""
    made = VectorStore(tmp_path / "vectors", 2)
    made.append(
        Chunk(0, 4, "", 3, 4, 0),
        {
            "images": np.array([[1, 0], [0, 2], [3, 0]], np.float32),
            "texts": np.array([[5, 5], [1, 1], [2, 0], [-1, 7]], np.float32),
        },
        {"images": np.array([0, 2, 3]), "texts": np.array([0, 1, 3, 3])},
    )
    return made


def test_energies_by_hand(vector_store: VectorStore) -> None:
    """−(1·5 + 0·5) = −5 for row 0; −3·2 = −6 and 3 for the captions of row 3; 1 and 2 no pairs."""
    scores = score_pairs(vector_store, "calibrated")
    assert scores.rows.tolist() == [0, 3, 3]
    assert scores.captions.tolist() == [0, 0, 1]
    assert scores.energies.tolist() == [-5, -6, 3]
    assert score_pairs(vector_store, "cosine").energies.tolist() == [-4, -5, 4]


def test_only_the_rows_that_were_asked_for_are_judged(vector_store: VectorStore) -> None:
    assert score_pairs(vector_store, "calibrated", np.array([1, 2, 3])).rows.tolist() == [3, 3]
    with pytest.raises(DataError, match="no pair of an image and a caption"):
        score_pairs(vector_store, "calibrated", np.array([1, 2]))


def test_the_share_of_lowest_energy_is_kept() -> None:
    """0.6 of four is 2.4, so 2; of the two energies of 1 the first; at least one stays."""
    scores = PairScores(np.arange(4), np.zeros(4, np.int64), np.array([1.0, 5.0, 1.0, -2.0]))
    assert keep_best(scores, 0.6).tolist() == [True, False, False, True]
    assert keep_best(scores, 0.01).tolist() == [False, False, False, True]


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.2, 80.0, float("nan")])
def test_a_share_beyond_its_bounds_is_refused(keep: float) -> None:
    with pytest.raises(ConfigError, match="must lie between 0 and 1, both excluded"):
        check_keep(keep)
