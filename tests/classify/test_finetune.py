from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tijepa.classify.features import item_features
from tijepa.classify.finetune import Tune, Tuning, check_tune, fine_tune
from tijepa.classify.labels import Items, read_items
from tijepa.data.pairs import PairSplits
from tijepa.errors import ConfigError
from tijepa.evaluate.probes import Examples, Linear, log_loss
from tijepa.evaluate.scores import hold_out
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import load


@pytest.fixture(scope="module")
def items(splits: PairSplits) -> Items:
    return read_items(splits, "train", "mood", "pair").labelled


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def tune_once(embedder: Embedder, items: Items, tuning: Tuning) -> tuple[Embedder, Linear]:
    labels = items.numbers(["gloomy", "sunny"])
    return fine_tune(
        embedder,
        items,
        Examples(item_features(embedder, items, "pair"), labels, items.group, 2),
        tuning,
        side="pair",
        parts="both",
        balanced=False,
        seed=0,
    )


@pytest.fixture(scope="module")
def tuned(tiny_run: Path, items: Items) -> Callable[..., tuple[Embedder, Linear]]:
    def run(tune: Tune, lr: float = 1e-2) -> tuple[Embedder, Linear]:
        return tune_once(load(tiny_run), items, Tuning(tune, 3, lr))

    return run


@pytest.mark.parametrize("tune", ["image", "text", "both"])
def test_only_the_named_encoder_moves(
    tune: Tune, tuned: Callable[[Tune], tuple[Embedder, Linear]], tiny_run: Path
) -> None:
    before, after = load(tiny_run).model, tuned(tune)[0].model
    for name in ("image", "text"):
        moved = not same(
            weights(getattr(before.context, name)), weights(getattr(after.context, name))
        )
        assert moved == (tune in (name, "both"))
    assert before.predictors is not None
    assert after.predictors is not None
    assert same(weights(before.predictors), weights(after.predictors))
    assert same(weights(before.context.image_head), weights(after.context.image_head))


def test_it_is_never_worse_on_the_held_out_items_than_the_probe_it_starts_from(
    tuned: Callable[..., tuple[Embedder, Linear]], items: Items
) -> None:
    """At a learning rate of 0 it is that probe; a wild one cannot make it worse."""
    labels = items.numbers(["gloomy", "sunny"])
    held = hold_out(labels, items.group, 0.1, 0)
    unseen = items.where(held.tolist())
    losses = []
    for lr in (0.0, 1e-2, 10.0):
        embedder, head = tuned("both", lr)
        logits = head.logits(item_features(embedder, unseen, "pair"))
        losses.append(log_loss(logits, labels[held]))
    assert max(losses[1:]) <= losses[0] + 1e-6
    assert losses[1] < losses[0]


def test_it_is_the_same_every_time(tuned: Callable[[Tune], tuple[Embedder, Linear]]) -> None:
    first, second = tuned("text"), tuned("text")
    assert same(weights(first[0].model), weights(second[0].model))
    assert torch.equal(first[1].affine.weight, second[1].affine.weight)


def test_an_encoder_that_the_run_froze_learns_in_its_last_layers(
    tiny_run: Path, items: Items
) -> None:
    """Depth 1: the last layer and the norm behind it move, the token embeddings do not.

    Four epochs are enough to beat the probe it starts from; or else that would be kept, unmoved.
    """
    embedder = load(tiny_run)
    embedder.model.context.text.requires_grad_(False)
    before = embedder.model.context.text.state_dict()
    after, _ = tune_once(embedder, items, Tuning("text", 4, 1e-2, layers=1))
    moved = {
        name.split(".")[0]
        for name, value in after.model.context.text.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"transformer"}
    assert not any(p.requires_grad for p in after.model.context.text.parameters())
    assert all(p.requires_grad for p in after.model.context.image.parameters())
    with pytest.raises(ConfigError, match="last_k is 2, and the backbone has 1 layers"):
        tune_once(embedder, items, Tuning("text", 1, 1e-2, layers=2))


def test_an_encoder_that_is_not_used_cannot_be_tuned() -> None:
    check_tune("text", "pair")
    check_tune("text", "text")
    check_tune(None, "image")
    with pytest.raises(ConfigError, match="`tune=text` has no effect with `side=image`"):
        check_tune("text", "image")
    with pytest.raises(ConfigError, match="`tune=both` has no effect with `side=text`"):
        check_tune("both", "text")
