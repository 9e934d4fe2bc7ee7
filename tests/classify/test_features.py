from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tijepa.classify.features import batch_features, item_features, read_inputs
from tijepa.classify.labels import Side, read_items
from tijepa.config import RunConfig
from tijepa.data.pairs import PairSplits
from tijepa.errors import DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import load
from tijepa.training.build import build_model


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Embedder:
    return load(tiny_run)


@pytest.mark.parametrize(("side", "width"), [("pair", 16 + 16 + 48), ("image", 32), ("text", 32)])
def test_features_are_pooled_tokens_and_what_the_model_adds(
    side: Side, width: int, model: Embedder, splits: PairSplits
) -> None:
    """Encoders of width 16, D = 8: pair features 6 D, embedding and prediction 2 D."""
    items = read_items(splits, "test", "mood", side)
    both = item_features(model, items, side)
    assert both.shape == (10, width)
    parts = [item_features(model, items, side, part) for part in ("encoders", "embeddings")]
    assert torch.equal(torch.cat(parts, dim=1), both)


def test_embeddings_of_pairs_are_those_of_the_embedder(
    model: Embedder, splits: PairSplits, tweets: Path
) -> None:
    items = read_items(splits, "test", "mood", "pair")
    own = item_features(model, items, "pair", "embeddings")
    texts = [captions[0] for captions in items.source.texts(items.rows)]
    given = model.encode_pair([tweets / name for name in items.ids], texts)
    torch.testing.assert_close(own, given, atol=1e-5, rtol=0)


def test_a_model_with_a_fusion_gives_its_fused_tokens(
    model: Embedder, tiny_config: Callable[..., RunConfig], splits: PairSplits, tweets: Path
) -> None:
    """The fusion is 12 wide: its mean stands behind the pooled tokens, 16 + 16 + 12."""
    config = tiny_config(
        "objective.tasks.fusion_infill=1", "model.fusion={width: 12, depth: 1, heads: 2}"
    )
    built = Embedder(
        build_model(config, model.tokenizer.vocab_size).eval(), model.tokenizer, model.card
    )
    items = read_items(splits, "test", "mood", "pair")
    texts = [captions[0] for captions in items.source.texts(items.rows)]
    fused = built.encode_pair([tweets / name for name in items.ids], texts)
    found = item_features(built, items, "pair")
    assert found.shape == (10, 44)
    torch.testing.assert_close(found[:, 32:], fused, atol=1e-5, rtol=0)
    assert item_features(built, items, "text").shape == (10, 32)


def test_features_of_an_item_do_not_depend_on_the_others(
    model: Embedder, splits: PairSplits
) -> None:
    items = read_items(splits, "test", "mood", "pair")
    alone = items.where([item == "test-3.png" for item in items.ids])
    row = item_features(model, alone, "pair")
    together = item_features(model, items, "pair")[items.ids.index("test-3.png")]
    torch.testing.assert_close(row[0], together, atol=1e-5, rtol=0)


def test_a_gradient_reaches_both_encoders(model: Embedder, splits: PairSplits) -> None:
    items = read_items(splits, "test", "mood", "pair")
    images, texts = read_inputs(model, items, [0, 1], "pair")
    batch_features(model, "pair", images, texts).sum().backward()  # type: ignore[no-untyped-call]
    for tower in (model.model.context.image, model.model.context.text):
        assert any(p.grad is not None and bool(p.grad.any()) for p in tower.parameters())
    model.model.zero_grad()


def test_a_split_without_usable_items_is_an_error(model: Embedder, splits: PairSplits) -> None:
    items = read_items(splits, "test", "mood", "pair")
    with pytest.raises(DataError, match="split 'test' has no item to classify"):
        item_features(model, items.where([False] * len(items)), "pair")
