"""The contract of every registered search backend."""

from __future__ import annotations

import numpy as np
import pytest

from tijepa.registry import entries, part
from tijepa.search.exact import exact_search, rerank


@pytest.mark.parametrize("name", entries("search_backend"))
def test_a_backend_finds_the_largest_inner_products_also_among_some(name: str) -> None:
    """Twelve unit vectors: a vector asked for itself is the first of its hits."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(12, 5)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    backend = part("search_backend", name)(values)
    for allowed in (None, np.array([1, 4, 7, 8])):
        among = range(12) if allowed is None else allowed.tolist()
        asked = values[list(among)]
        found = backend.search(asked, 3, allowed)
        assert found.shape[1] >= 3
        best = rerank(values, asked, found, 3)
        assert best.positions[:, 0].tolist() == list(among)
        assert set(np.unique(found)) <= {-1, *among}
        if name == "exact":
            exact = exact_search(values, asked, 3, allowed).positions
            assert best.positions.tolist() == exact.tolist()
