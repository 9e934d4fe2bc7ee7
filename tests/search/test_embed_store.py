"""Rows of a store whose features are cached are read, not encoded."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import tijepa
from tijepa import DataError, Embedder
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import load_config
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.io.progress import SILENT
from tijepa.search import Index
from tijepa.search.embed_store import Inputs
from tijepa.search.vector_store import SIDES
from tijepa.training import train


@pytest.fixture(scope="module")
def trained(
    frozen_settings: list[str], prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Embedder]:
    """A store with the features of all its rows, and the model."""
    folder = tmp_path_factory.mktemp("cached")
    store = Path(shutil.copytree(prepared, folder / "pairs.lance"))
    settings = [f"data.source={json.dumps(str(store))}", *frozen_settings]
    run = train(load_config(overrides=settings), folder / "run", reporter=SILENT)
    return store, tijepa.load(run)


def test_an_index_reads_what_training_has_cached_and_is_the_same(
    trained: tuple[Path, Embedder], tmp_path: Path, encoded: dict[str, int]
) -> None:
    """All three splits have them; one text is encoded to measure rows by."""
    store, embedder = trained
    bare = Path(shutil.copytree(store, tmp_path / "pairs.lance"))
    whole = Index.build(embedder, str(bare), threads=1)
    encoded |= dict.fromkeys(encoded, 0)
    told = io.StringIO()
    index = Index.build(
        embedder, str(store), threads=1, reporter=ConsoleReporter(Console(file=told, width=200))
    )
    assert encoded == {"image": 0, "text": 1}
    for modality in ("image", "text"):
        words = f"features  {modality}: 56 of 56 rows from the cache of an earlier run"
        assert words in told.getvalue()
    assert (index.card.images, index.card.texts, index.card.unreadable) == (56, 112, 0)
    for side in SIDES:
        ours, theirs = index._vectors[side], whole._vectors[side]
        assert np.array_equal(ours.rows, theirs.rows)
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-4, atol=1e-4)


def test_another_model_does_not_read_them(
    trained: tuple[Path, Embedder], embedder: Embedder
) -> None:
    told = io.StringIO()
    Index.build(embedder, str(trained[0]), threads=1, reporter=ConsoleReporter(Console(file=told)))
    assert "features" not in told.getvalue()


def test_features_of_a_store_that_was_written_anew_are_an_error(
    trained: tuple[Path, Embedder], prepared: Path, tmp_path: Path
) -> None:
    """Another store under the same name has version 1 as well, written at another time."""
    store, embedder = trained
    shutil.copytree(store.with_suffix(".features"), tmp_path / "pairs.features")
    write_store(open_reader(str(prepared.parent / "pairs")), str(tmp_path / "pairs.lance"))
    with pytest.raises(DataError, match=r"stale: their store is version 1 .* delete"):
        Index.build(embedder, str(tmp_path / "pairs.lance"), threads=1)


def test_what_is_cached_and_what_is_encoded_stand_in_the_order_of_the_rows() -> None:
    inputs = Inputs(
        rows=[4, 5, 5, 7],
        new=[True, False, False, True],
        given=["a", "b"],
        cached=[torch.tensor([[1.0], [2.0]])],
    )
    found = inputs.embedded(
        lambda texts: torch.tensor([[10.0 + ord(text)] for text in texts]),
        lambda features: -features.pooled,
    )
    assert found.flatten().tolist() == [107, -1, -2, 108]
