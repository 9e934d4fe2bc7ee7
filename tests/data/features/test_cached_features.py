from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tijepa.data.features.cached_features import CachedRows, features_folder, made_of
from tijepa.data.features.writer import FeatureWriter
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store, StoreSource, open_store


@pytest.fixture
def source(pairs_folder: Path, tmp_path: Path) -> StoreSource:
    """The training split of a store of 56 pairs in three splits."""
    write_store(open_reader(str(pairs_folder)), str(tmp_path / "pairs.lance"))
    split = open_store(str(tmp_path / "pairs.lance")).split("train")
    assert isinstance(split, StoreSource)
    return split


def keep(source: StoreSource, key: str, split: str, *, finish: bool = True) -> None:
    """Item i has the feature i; item 3 has an image that cannot be read."""
    folder = features_folder(source.store) / f"image-{key}" / split
    writer = FeatureWriter(folder, made_of(key, source), tokens=False)
    rows = [int(item != 3) for item in range(len(source))]
    pooled = torch.tensor([[float(item)] for item, count in enumerate(rows) if count])
    writer.add(rows, pooled, None, None, {3: "broken"})
    if finish:
        writer.finish()


def test_features_are_found_by_the_row_of_the_store(source: StoreSource) -> None:
    keep(source, "b", "train")
    kept = CachedRows.find(source.store, {"image": ["a", "b"], "text": ["b"]})["image"]
    assert len(kept) == len(source)
    rows = {int(row) for row in source.rows}
    assert [kept.covers(row) for row in range(56)] == [row in rows for row in range(56)]
    for item, row in enumerate(source.rows):
        assert kept.pooled(int(row)).flatten().tolist() == ([] if item == 3 else [item])
        assert kept.unreadable(int(row)) == (item == 3)


def test_the_first_key_that_has_features_is_taken(source: StoreSource) -> None:
    keep(source, "a", "train", finish=False)  # not complete: nobody's
    assert CachedRows.find(source.store, {"image": ["a"]}) == {}
    keep(source, "b", "train")
    found = CachedRows.find(source.store, {"image": ["a", "b"], "text": ["a", "b"]})
    assert found.keys() == {"image"}


def test_features_of_another_version_are_not_taken(source: StoreSource) -> None:
    keep(source, "a", "train")
    assert CachedRows.find(source.store, {"image": ["a"]}) != {}
    source.store.dataset.delete(f"id = '{source.item_id(0)}'")
    newer = Store(source.store.uri)
    assert newer.version > source.store.version
    assert CachedRows.find(newer, {"image": ["a"]}) == {}
