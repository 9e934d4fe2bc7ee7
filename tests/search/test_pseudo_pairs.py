"""Images and texts without partner, each with its nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.errors import DataError
from tijepa.search import pair_energies
from tijepa.search.pair_energies import find_pseudo_pairs, nearest_pairs, unpaired
from tijepa.search.vector_store import Chunk, VectorStore


@pytest.fixture
def vector_store(tmp_path: Path) -> VectorStore:
    """Row 0 is a pair, rows 1 and 2 are images, rows 3 (two captions) and 4 are texts."""
    made = VectorStore(tmp_path / "vectors", 2)
    made.append(
        Chunk(0, 5, "", 3, 4, 0),
        {
            "images": np.array([[9, 9], [1, 0], [2, 1]], np.float32),
            "texts": np.array([[9, 9], [4, 0], [0, 2], [1, 0]], np.float32),
        },
        {"images": np.array([0, 1, 2]), "texts": np.array([0, 3, 3, 4])},
    )
    return made


def test_partners_by_hand(vector_store: VectorStore) -> None:
    """The captions of row 3 have the mean (2, 1). Products of the images (1, 0), (2, 1) with it
    and with (1, 0) are 2, 1 and 5, 2: both images like row 3 best, both texts the image of
    row 2. So rows 2 and 3 are a mutual pair of energy −5, and 1 has 3, and 4 has 2, at −2."""
    found = find_pseudo_pairs(vector_store, "calibrated", unpaired(vector_store, np.arange(5)))
    assert (found.images.tolist(), found.texts.tolist()) == ([2, 1, 2], [3, 3, 4])
    assert found.energies.tolist() == [-5, -2, -2]
    assert found.mutual.tolist() == [True, False, False]
    best = find_pseudo_pairs(vector_store, "cosine", unpaired(vector_store, np.arange(5))).best(0.6)
    assert (best.images.tolist(), best.energies.tolist()) == ([2, 1], [-4, -1])


def test_only_the_rows_that_were_asked_for_are_matched(vector_store: VectorStore) -> None:
    found = find_pseudo_pairs(
        vector_store, "calibrated", unpaired(vector_store, np.array([0, 1, 3]))
    )
    assert (found.images.tolist(), found.texts.tolist()) == ([1], [3])
    with pytest.raises(DataError, match="2 images without caption and 0 captions without"):
        unpaired(vector_store, np.array([0, 1, 2]))


@given(
    images=st.integers(1, 9),
    texts=st.integers(1, 9),
    seed=st.integers(0, 99),
    block=st.integers(1, 4),
)
@settings(deadline=None)
def test_every_row_has_the_largest_product_of_its_own(
    images: int, texts: int, seed: int, block: int
) -> None:
    """Small whole numbers, so that products are exact and some are equal: then the first counts."""
    generator = np.random.default_rng(seed)
    x = generator.integers(-2, 3, (images, 3)).astype(np.float32)
    y = generator.integers(-2, 3, (texts, 3)).astype(np.float32)
    products = x @ y.T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_energies, "_TILE", block)
        at_image, at_text, mutual = nearest_pairs(x, y)
    by_image = {(i, int(products[i].argmax())) for i in range(images)}
    by_text = {(int(products[:, j].argmax()), j) for j in range(texts)}
    found = list(zip(at_image.tolist(), at_text.tolist(), strict=True))
    assert found == sorted(by_image | by_text)
    assert {pair for pair, both in zip(found, mutual, strict=True) if both} == by_image & by_text
