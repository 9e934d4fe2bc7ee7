"""Embeddings of a store on disk: long rows in half precision, short ones and old files in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tijepa.search.exact import exact_search
from tijepa.search.ivf import Lists
from tijepa.search.pair_energies import find_pseudo_pairs
from tijepa.search.vector_store import HALF_FROM, Chunk, VectorStore


def rows_of(count: int, length: int, seed: int) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((count, length), dtype=np.float32)
    return found / np.float32(length**0.5)


def append(made: VectorStore, images: NDArray[np.float32], texts: NDArray[np.float32]) -> None:
    start, count = made.rows, len(images)
    last = made.last
    chunk = Chunk(start, start + count, "", last.images + count, last.texts + len(texts))
    rows = np.arange(start, start + count)
    made.append(chunk, {"images": images, "texts": texts}, {"images": rows, "texts": rows})


@pytest.mark.parametrize(
    ("length", "name", "size"), [(HALF_FROM - 1, "images.f32", 4), (HALF_FROM, "images.f16", 2)]
)
def test_long_rows_take_half_the_bytes(length: int, name: str, size: int, tmp_path: Path) -> None:
    made = VectorStore(tmp_path, length)
    images = rows_of(3, length, 0)
    append(made, images, images)
    assert (tmp_path / name).stat().st_size == 3 * length * size
    held = VectorStore(tmp_path, length).vectors("images").values
    np.testing.assert_allclose(held, images, atol=0 if size == 4 else 2e-4)


def test_files_of_full_precision_are_read_and_added_to_as_they_are(tmp_path: Path) -> None:
    """As an earlier version wrote them."""
    length = 2 * HALF_FROM
    images = rows_of(4, length, 1)
    made = VectorStore(tmp_path / "new", length)
    append(made, images, images)
    old = tmp_path / "old"
    old.mkdir()
    for side in ("images", "texts"):
        images.astype("<f4").tofile(old / f"{side}.f32")
        (tmp_path / "new" / f"{side}.rows").rename(old / f"{side}.rows")
    (tmp_path / "new" / "journal.jsonl").rename(old / "journal.jsonl")
    opened = VectorStore(old, length)
    assert np.array_equal(opened.vectors("images").values, images)
    append(opened, images, images)
    assert np.array_equal(VectorStore(old, length).vectors("texts").values[4:], images)


def test_every_search_takes_rows_of_half_precision(tmp_path: Path) -> None:
    """Exact, by lists and between all, at sums that half precision could not hold."""
    made = VectorStore(tmp_path, HALF_FROM)
    images, texts = rows_of(300, HALF_FROM, 2), rows_of(300, HALF_FROM, 3)
    texts[:, 0] = 300  # 300 · 300 overflows half precision
    images[:, 0] = 300 + np.arange(300)  # the last one has by far the largest product
    append(made, images, texts)
    values = made.vectors("images").values
    assert values.dtype == np.float16
    found = exact_search(values, texts, 1)
    assert (found.positions == 299).all()
    queries = texts[:20]
    lists = Lists.build(values, made.vectors("texts").values, "cosine", "images")
    candidates = lists.search(values, queries, 5, None)
    assert (candidates[:, 0] >= 0).all()
    every = {"images": np.arange(300), "texts": np.arange(300)}
    pairs = find_pseudo_pairs(made, "cosine", every)
    assert np.isfinite(pairs.energies).all()
    assert 299 in pairs.images
