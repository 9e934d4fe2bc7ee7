"""Items whose features are cached are read, not encoded."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

import tijepa
from tijepa import DataError
from tijepa.classify import FitOptions, fit_classifier, predict_labels
from tijepa.classify.features import Parts, cached_of, item_features
from tijepa.classify.labels import Items, Side, read_items
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import load_config
from tijepa.data import open_splits
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.io.progress import SILENT
from tijepa.training import train

QUIET = SILENT


@pytest.fixture(scope="module")
def cached_run(
    frozen_settings: list[str], tweets: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run on the tweets and their store, beside which its features lie."""
    folder = tmp_path_factory.mktemp("cached")
    store = folder / "tweets.lance"
    write_store(open_reader(str(tweets)), str(store))
    settings = [f"data.source={json.dumps(str(store))}", *frozen_settings]
    return train(load_config(overrides=settings), folder / "run", reporter=QUIET), store


def items_of(store: Path, split: str, side: Side) -> Items:
    splits = open_splits(str(store), image_size=32, seed=0, max_bad=0.5)
    return read_items(splits, split, "mood", side)


@pytest.mark.parametrize("side", ["pair", "image", "text"])
@pytest.mark.parametrize("parts", ["both", "encoders"])
def test_features_that_are_cached_make_the_same_ones(
    cached_run: tuple[Path, Path], encoded: dict[str, int], side: Side, parts: Parts
) -> None:
    run, store = cached_run
    embedder, items = tijepa.load(run), items_of(store, "train", side)
    fresh = item_features(embedder, items, side, parts)
    assert sum(encoded.values()) > 0
    encoded |= dict.fromkeys(encoded, 0)
    cached = cached_of(embedder, items, side, parts, QUIET)
    assert set(cached) == ({"image", "text"} if side == "pair" else {side})
    read = item_features(embedder, items, side, parts, cached=cached)
    assert encoded == {"image": 0, "text": 0}
    torch.testing.assert_close(read, fresh, rtol=1e-4, atol=1e-4)


def test_where_one_modality_is_cached_the_other_is_encoded(
    cached_run: tuple[Path, Path], encoded: dict[str, int]
) -> None:
    run, store = cached_run
    embedder, items = tijepa.load(run), items_of(store, "train", "pair")
    fresh = item_features(embedder, items, "pair")
    cached = cached_of(embedder, items, "pair", "both", QUIET)
    encoded |= dict.fromkeys(encoded, 0)
    read = item_features(embedder, items, "pair", cached={"image": cached["image"]})
    assert encoded == {"image": 0, "text": len(items)}
    torch.testing.assert_close(read, fresh, rtol=1e-4, atol=1e-4)


def test_a_classifier_is_fitted_and_predicts_without_the_encoders(
    cached_run: tuple[Path, Path], encoded: dict[str, int], tmp_path: Path
) -> None:
    """Nor is what judges it: the features of the split test are cached as well."""
    run, store = cached_run
    told = io.StringIO()
    console = Console(file=told, width=200)
    fit_classifier(
        run, str(store), "mood", options=FitOptions(folds=2), reporter=ConsoleReporter(console)
    )
    assert encoded == {"image": 0, "text": 0}
    assert "features  image: 56 of 56 rows from the cache of an earlier run" in told.getvalue()
    out = tmp_path / "moods.csv"
    predict_labels(run, str(store), out, name="mood", split="train")
    assert encoded == {"image": 0, "text": 0}
    assert len(list(csv.DictReader(out.read_text().splitlines()))) == 4


def test_an_image_that_training_could_not_read_is_named(
    cached_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = cached_run
    embedder, items = tijepa.load(run), items_of(store, "train", "image")
    cached = cached_of(embedder, items, "image", "both", QUIET)
    broken = int(items.source.rows[items.rows[1]])
    monkeypatch.setattr(cached["image"], "unreadable", lambda row: row == broken)
    with pytest.raises(DataError, match=rf"item {items.ids[1]}: .*prepare the store anew"):
        item_features(embedder, items, "image", cached=cached)


def test_fused_features_need_tokens_and_read_nothing(
    cached_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = cached_run
    embedder, items = tijepa.load(run), items_of(store, "train", "pair")
    monkeypatch.setattr(embedder.model.context, "fusion", torch.nn.Identity())
    told = io.StringIO()
    assert cached_of(embedder, items, "pair", "both", ConsoleReporter(Console(file=told))) == {}
    assert told.getvalue() == ""
    assert set(cached_of(embedder, items, "pair", "encoders", QUIET)) == {"image", "text"}
