"""Both halves of a text-image model with their projections: what it gives without tijepa."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.pretrained.tiny import write_bert, write_text_image_model

import tijepa
from tijepa.config import load_config
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.evaluate.forgetting import forgetting
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone
from tijepa.model.pretrained.sources import open_image_source, open_text_source
from tijepa.model.pretrained.weights import load_pretrained

pytest.importorskip("transformers")
TEXTS = ["a red circle", "the dog runs on the left of a blue square and more words"]


def features(found: Any) -> torch.Tensor:
    """What `get_image_features` and `get_text_features` give, in the form of either version."""
    pooled: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return pooled


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_images_are_projected_as_the_model_does_it(kind: str, tmp_path: Path) -> None:
    model = write_text_image_model(tmp_path / kind, kind)
    source = open_image_source(str(tmp_path / kind), projected=True)
    own = ImageBackbone(net=source.net, image_size=32, pooling="projected")
    load_pretrained(own.net, source.weights(32), kind)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = features(model.get_image_features(pixel_values=images))
        found = own(images).pooled
    assert own.pooled_width == expected.shape[1] == (24 if kind == "clip" else 40)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_texts_are_projected_as_the_model_does_it_whatever_stands_beside_them(
    kind: str, tmp_path: Path
) -> None:
    """Of a batch and alone; SigLIP's padding to its full length is part of what it reads."""
    model = write_text_image_model(tmp_path / kind, kind)
    source = open_text_source(str(tmp_path / kind), projected=True)
    own = TextBackbone(net=source.net, max_tokens=12, pooling="projected")
    load_pretrained(own.net, source.weights(), kind)
    ids = Tokenizer.of_backbone(source.tokenizer, source.pad_id).encode(TEXTS, 12)
    whole = torch.nn.functional.pad(ids.ids, (0, 12 - ids.ids.shape[1]), value=source.pad_id)
    with torch.no_grad():
        expected = features(model.get_text_features(input_ids=whole))
        found = own(ids.ids, ids.mask).pooled
        length = int(ids.mask[0].sum())
        alone = own(ids.ids[:1, :length], ids.mask[:1, :length]).pooled
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, expected[:1], atol=1e-5, rtol=1e-5)


def test_one_name_stands_for_both_encoders_and_their_projections(tmp_path: Path) -> None:
    config = load_config(None, None, ["model.backbone=openai/clip", "data.source=x"])
    for tower in (config.model.image, config.model.text):
        assert (tower.backbone, tower.pool) == ("openai/clip", "projected")
    preset = load_config("photos-closed-form", None, ["model.backbone=openai/clip"])
    assert (preset.model.image.backbone, preset.model.image.views) == ("openai/clip", "whole")
    assert preset.model.text.pool == "projected"
    other = ["model.backbone=a/b", "model.text.backbone=c/d"]
    with pytest.raises(
        ConfigError, match=r"model.backbone is 'a/b', and model.text.backbone 'c/d'"
    ):
        load_config(None, None, other)


def test_a_text_encoder_is_no_text_image_model(tmp_path: Path) -> None:
    folder = str(write_bert(tmp_path / "bert"))
    with pytest.raises(ConfigError, match="of model_type 'bert', not a text-image model"):
        open_text_source(folder, projected=True)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_nothing_is_trained_and_its_own_cosine_stands_beside_the_calibrated_energy(
    kind: str, tmp_path: Path, pairs_folder: Path
) -> None:
    write_text_image_model(tmp_path / kind, kind)
    run = tijepa.train(
        pairs_folder,
        preset="photos-closed-form",
        out=tmp_path / "run",
        model__backbone=str(tmp_path / kind),
        model__embed_dim=16,
        data__image_size=32,
        data__max_tokens=12,
        compute__threads=1,
    )
    assert run.results.own_cosine is not None
    assert run.results.own_cosine.num_images == 12
    assert run.results.retrieval is not None
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["own_cosine"]["image_to_text"].keys() == found["retrieval"]["image_to_text"].keys()
    assert "own cosine" in run.report.read_text()
    again = tijepa.load(tmp_path / "run")
    image = str(pairs_folder / "test-0.png")
    torch.testing.assert_close(
        again.energy(image, TEXTS), run.model.energy(image, TEXTS), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_training_on_top_says_what_it_did_to_another_domain(
    train: str, tmp_path: Path, pairs_folder: Path
) -> None:
    """The towers as they came are those of the folder, also where LoRA has changed the run's."""
    write_text_image_model(tmp_path / "clip", "clip")
    run = tijepa.train(
        pairs_folder,
        preset="photos-frozen",
        out=tmp_path / "run",
        model__backbone=str(tmp_path / "clip"),
        model__image__train=train,
        model__embed_dim=8,
        model__head__hidden=8,
        data__image_size=32,
        data__max_tokens=12,
        optim__batch_size=4,
        optim__steps=3,
        optim__lr=0.1,
        compute__threads=1,
    )
    found = run.results.forgetting
    assert found is not None
    assert found.before.num_images == found.after.num_images == 200
    assert 0 <= found.agreement_at_10 < 1
    assert "another domain, R@1 went from" in run.report.read_text()
    untouched = tijepa.load(tmp_path / "run")
    again = forgetting(untouched)
    assert (again.after, again.before == found.before) == (found.after, train == "frozen")
