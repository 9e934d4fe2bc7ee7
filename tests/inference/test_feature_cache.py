"""The feature cache: what is made of a split is found again, by item and by row of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tijepa.data.features import SplitFeatures
from tijepa.data.pairs import PairSource
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store, StoreSource, open_store
from tijepa.errors import DataError
from tijepa.inference.feature_cache import COMPLETE, FeatureCache, feature_keys, image_inputs
from tijepa.inference.frozen_encoders import FrozenEncoder, Piece
from tijepa.io.vectors import JOURNAL


@pytest.fixture
def source(pairs_folder: Path, tmp_path: Path) -> StoreSource:
    """The training split of a store of 56 pairs in three splits, 32 in this one."""
    write_store(open_reader(str(pairs_folder)), str(tmp_path / "pairs.lance"))
    split = open_store(str(tmp_path / "pairs.lance")).split("train")
    assert isinstance(split, StoreSource)
    return split


def encoder(*, tokens: bool = False, stop: int = 99) -> FrozenEncoder:
    """Item i has the feature i and i % 3 tokens of value i; item 3 has a broken image.

    Four items make a piece. At item `stop` it is interrupted.
    """

    def pieces(source: PairSource, start: int) -> Iterator[Piece]:
        for first in range(start, len(source), 4):
            if first >= stop:
                raise KeyboardInterrupt
            items = [i for i in range(first, first + 4) if i != 3]
            values = torch.tensor([[float(i)] for i in items])
            mask = torch.arange(2) < torch.tensor([[i % 3] for i in items])
            yield Piece(
                [int(i != 3) for i in range(first, first + 4)],
                values,
                values[:, None].expand(-1, 2, 5).clone() if tokens else None,
                mask if tokens else None,
                {3: "broken"} if first == 0 else {},
            )

    return FrozenEncoder(1, 5 if tokens else None, pieces)


def make(source: StoreSource, key: str, made: FrozenEncoder | None = None) -> SplitFeatures:
    cache = FeatureCache(source.store, {"image": [key]}, {"image": made or encoder()})
    return cache.split("train", source)


def folder_of(source: StoreSource, key: str) -> Path:
    return FeatureCache(source.store, {}).folder / f"image-{key}" / "train"


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_features_of_a_split_are_made_once_and_found_by_item(source: StoreSource) -> None:
    assert FeatureCache(source.store, {"image": ["a"]}).split("train", source) == SplitFeatures()
    made = make(source, "a", encoder(tokens=True))
    found = make(source, "a", encoder(tokens=True, stop=0))  # nothing is made again
    for features in (made, found):
        assert features.text is None
        table = features.image
        assert table is not None
        assert (len(table), table.count(2), table.count(3), table.broken) == (
            32,
            1,
            0,
            {3: "broken"},
        )
        taken = table.take([5, 2], [0, 0])
        assert taken.pooled.tolist() == [[5], [2]]
        assert taken.mask is not None
        assert taken.mask.tolist() == [[True, True], [True, True]]
        assert taken.tokens is not None
        assert taken.tokens.unique().tolist() == [2, 5]


def test_pooled_features_alone_have_no_files_of_tokens(source: StoreSource) -> None:
    made = make(source, "a").image
    assert made is not None
    assert made.pooled_alone
    assert sorted(contents(folder_of(source, "a"))) == [COMPLETE, "pooled.f32", "rows.u32"]


def test_an_interrupted_split_goes_on_and_ends_the_same(source: StoreSource) -> None:
    make(source, "whole", encoder(tokens=True))
    with pytest.raises(KeyboardInterrupt):
        make(source, "parts", encoder(tokens=True, stop=8))
    folder = folder_of(source, "parts")
    assert len((folder / JOURNAL).read_text().splitlines()) == 2
    with open(folder / "pooled.f32", "ab") as file:
        file.write(b"half a piece")
    reading = FeatureCache(source.store, {"image": ["parts"]})
    assert reading.split("train", source) == SplitFeatures()
    make(source, "parts", encoder(tokens=True))
    ours, whole = contents(folder), contents(folder_of(source, "whole"))
    assert ours.pop(COMPLETE).replace(b'"parts"', b'"whole"') == whole.pop(COMPLETE)
    assert ours == whole


def test_the_beginnings_of_another_store_in_the_same_place_are_thrown_away(
    source: StoreSource,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(source, "a", encoder(stop=8))
    journal = folder_of(source, "a") / JOURNAL
    journal.write_text(journal.read_text().replace("version 1 of", "version 1 not of"))
    (journal.parent / "progress.json").write_text("{}")  # an older version's journal
    begun = encoder()
    starts: list[int] = []

    def pieces(source: PairSource, start: int) -> Iterator[Piece]:
        starts.append(start)
        return begun.pieces(source, start)

    make(source, "a", FrozenEncoder(1, None, pieces))
    assert starts == [0]
    assert sorted(contents(journal.parent)) == [COMPLETE, "pooled.f32", "rows.u32"]


def test_stale_and_damaged_features_are_errors(source: StoreSource) -> None:
    make(source, "a")
    folder = folder_of(source, "a")
    cache = FeatureCache(source.store, {"image": ["a"]})
    text = (folder / COMPLETE).read_text()
    (folder / COMPLETE).write_text(text.replace('"store": "version', '"store": "another version'))
    with pytest.raises(DataError, match=r"stale: their store is another .* delete .* made anew"):
        cache.rows()
    (folder / COMPLETE).write_text(text)
    with open(folder / "pooled.f32", "ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match=r"damaged .* bytes instead of .* delete"):
        cache.split("train", source)


def test_what_cannot_be_written_is_said(source: StoreSource) -> None:
    FeatureCache(source.store, {}).folder.parent.write_text("")
    with pytest.raises(DataError, match=r"cannot cache features .* data\.cache_features=false"):
        make(source, "a")


def test_features_are_found_by_the_row_of_the_store(source: StoreSource) -> None:
    make(source, "b")
    cached = FeatureCache(source.store, {"image": ["a", "b"], "text": ["b"]}).rows()["image"]
    assert len(cached) == len(source)
    rows = {int(row) for row in source.rows}
    assert [cached.covers(row) for row in range(56)] == [row in rows for row in range(56)]
    for item, row in enumerate(source.rows):
        assert cached.pooled(int(row)).flatten().tolist() == ([] if item == 3 else [item])
        assert cached.unreadable(int(row)) == (item == 3)


def test_the_first_key_that_has_features_is_taken(source: StoreSource) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(source, "a", encoder(stop=8))  # not complete: nobody's
    assert FeatureCache(source.store, {"image": ["a"]}).rows() == {}
    make(source, "b")
    found = FeatureCache(source.store, {"image": ["a", "b"], "text": ["a", "b"]}).rows()
    assert found.keys() == {"image"}


def test_features_of_another_version_are_not_taken(source: StoreSource) -> None:
    make(source, "a")
    assert FeatureCache(source.store, {"image": ["a"]}).rows() != {}
    source.store.dataset.delete(f"id = '{source.item_id(0)}'")
    newer = Store(source.store.uri)
    assert newer.version > source.store.version
    assert FeatureCache(newer, {"image": ["a"]}).rows() == {}


# Keys.

BASE: dict[str, Any] = {
    "arguments": {"width": 8, "mode": "frozen", "layers": 1, "rank": 4},
    "inputs": image_inputs(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "making": [(torch.float32, False)],
    "weights": 1.0,
}


def key(**changes: Any) -> list[str]:
    made = BASE | changes
    part = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(part.weight, made.pop("weights"))
    torch.nn.init.zeros_(part.bias)
    return feature_keys(part, **made)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": BASE["arguments"] | {"width": 16}},
        {"inputs": image_inputs(48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))},
        {"inputs": image_inputs(32, (0.5, 0.5, 0.4), (0.25, 0.25, 0.25))},
        {"making": [(torch.float32, True)]},
        {"making": [(torch.bfloat16, False)]},
        {"weights": 2.0},
    ],
)
def test_whatever_changes_the_features_changes_the_key(change: dict[str, Any]) -> None:
    assert key() == key()
    assert key(**change) != key()


def test_how_an_encoder_is_trained_does_not_change_what_it_gives() -> None:
    arguments = {"width": 8, "mode": "lora", "layers": 2, "rank": 8}
    assert key(arguments=arguments) == key()
