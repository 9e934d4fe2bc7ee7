"""Energies of tasks on matched and shuffled pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.tokenizer import Tokenizer
from tijepa.evaluate.collapse_metrics import fused_metrics
from tijepa.evaluate.measure import EvaluationSet, evaluation_set
from tijepa.evaluate.tasks import held_out_batch, task_energies
from tijepa.training.build import build_model, build_objective

Configure = Callable[..., RunConfig]

EVERY_TASK = [
    "objective.tasks.text_to_image.tokens=1",
    "objective.tasks.image_to_text.tokens=1",
    "objective.tasks.image_infill=1",
    "objective.tasks.text_infill=1",
    "objective.tasks.image_only=1",
    "objective.tasks.text_only=1",
    "objective.tasks.fusion_infill=1",
    "model.fusion={width: 8, depth: 1, heads: 2}",
    "model.token_predictor.width=8",
    "model.token_predictor.depth=1",
]


@pytest.fixture
def held_out(pairs_folder: Path) -> EvaluationSet:
    splits = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.0)
    return evaluation_set(splits.split("test"), items=8, captions=0, image_size=32)


@pytest.fixture
def tokenizer(held_out: EvaluationSet) -> Tokenizer:
    return Tokenizer.train(held_out.texts, 200)


def test_every_energy_has_matched_and_those_of_both_modalities_a_gap(
    tiny_config: Configure, held_out: EvaluationSet, tokenizer: Tokenizer
) -> None:
    config = tiny_config(*EVERY_TASK)
    model = build_model(config, tokenizer.vocab_size)
    torch.manual_seed(0)
    with torch.no_grad():  # at the size of fresh weights no prediction depends on its input yet
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    batch = held_out_batch(held_out, tokenizer, 16)
    found = task_energies(model, build_objective(config), batch)
    assert found.keys() == {
        "text_to_image/pooled",
        "image_to_text/pooled",
        "text_to_image/tokens",
        "image_to_text/tokens",
        "image_infill/tokens",
        "text_infill/tokens",
        "image_only/tokens",
        "text_only/tokens",
        "fusion_infill/tokens",
    }
    fused = found["fusion_infill/tokens"]
    assert fused["wrong_text_gap"] == fused["wrong_text"] - fused["matched"]
    assert fused["wrong_text"] not in (fused["matched"], fused["shuffled"])
    assert 0.0 < fused["target_variance"] < 1.0
    for name, energies in found.items():
        if "only" in name:
            assert energies.keys() == {"matched"}
        else:
            assert energies["gap"] == energies["shuffled"] - energies["matched"]
            assert energies["shuffled"] != energies["matched"]


def test_pooled_energies_are_those_of_the_pairs_and_of_pairs_half_a_batch_apart(
    tiny_config: Configure, held_out: EvaluationSet, tokenizer: Tokenizer
) -> None:
    """E(text → image) of a batch is the mean over rows and dimensions of (g(z_T) − z_I)²."""
    config = tiny_config()
    model = build_model(config, tokenizer.vocab_size).eval()
    batch = held_out_batch(held_out, tokenizer, 16)
    found = task_energies(model, build_objective(config), batch)["text_to_image/pooled"]
    with torch.no_grad():
        image = model.context.embed_image(model.context.image(batch.images).pooled)
        text = model.context.embed_text(model.context.text(batch.tokens, batch.token_mask).pooled)
        assert model.predictors is not None
        predicted = model.predictors.text_to_image(text)
    half = len(batch) // 2
    wrong = torch.cat([predicted[-half:], predicted[:-half]])
    assert found["matched"] == pytest.approx(float((predicted - image).square().mean()), rel=1e-4)
    assert found["shuffled"] == pytest.approx(float((wrong - image).square().mean()), rel=1e-4)


@torch.no_grad()
def test_a_constant_fusion_has_no_gap_no_variance_and_no_spread(
    tiny_config: Configure, held_out: EvaluationSet, tokenizer: Tokenizer
) -> None:
    """The trivial solution: with its final norm at weight 0, X gives its bias whatever it sees.

    A fresh fusion has some of all three.
    """
    config = tiny_config(
        "objective.tasks.fusion_infill=1", "model.fusion={width: 8, depth: 1, heads: 2}"
    )
    model, objective = build_model(config, tokenizer.vocab_size), build_objective(config)
    batch = held_out_batch(held_out, tokenizer, 16)
    assert model.context.fusion is not None
    assert model.target is not None
    assert model.target.fusion is not None
    fresh = task_energies(model, objective, batch)["fusion_infill/tokens"]
    readings = fused_metrics(model, batch)
    assert fresh["target_variance"] > 0
    assert readings.keys() == {"fused", "fused targets"}
    assert readings["fused"]["spread"] > 0
    assert readings["fused targets"]["drift"] == 0.0
    for fusion in (model.context.fusion, model.target.fusion):
        fusion.norm.weight.zero_()
        fusion.norm.bias.copy_(torch.arange(8.0))
    lost = task_energies(model, objective, batch)["fusion_infill/tokens"]
    for name in ("gap", "wrong_text_gap", "target_variance"):
        assert lost[name] == 0.0, name
    assert fused_metrics(model, batch)["fused"]["spread"] == 0.0


def test_contrastive_objectives_have_no_energies_of_tasks(
    tiny_config: Configure, held_out: EvaluationSet, tokenizer: Tokenizer
) -> None:
    config = tiny_config("objective.name=clip")
    model = build_model(config, tokenizer.vocab_size)
    batch = held_out_batch(held_out, tokenizer, 16)
    assert task_energies(model, build_objective(config), batch) == {}


def test_a_held_out_batch_takes_the_first_text_of_each_image(
    held_out: EvaluationSet, tokenizer: Tokenizer
) -> None:
    batch = held_out_batch(held_out, tokenizer, 16)
    first = tokenizer.encode([held_out.texts[2 * k] for k in range(8)], 16)  # two texts an image
    assert torch.equal(batch.tokens, first.ids)
    assert torch.equal(batch.images, held_out.images)
