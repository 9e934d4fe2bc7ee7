"""Encoders that look features up, and the two networks whose features they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import frozen
from features.flickr import CAPTIONS, keep_features, make_up_features
from features.stored import folded, open_features
from grid.held import Held, batches
from grid.job import Job
from grid.recall import trained_recalls
from grid.training import Training

WIDTHS = ("model.image.width=40", "model.text.width=32")
SMALL = ("model.embed_dim=8", "model.head.hidden=16")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = tmp_path_factory.mktemp("features")
    make_up_features(folder, 40)
    return open_features(folder, 40, 32)


@pytest.mark.parametrize("objective", ["tijepa", "clip"])
def test_encoders_return_the_features_of_the_pair_in_the_batch(held: Held, objective: str) -> None:
    own = ("model.head.depth=1",) if objective == "clip" else ()
    job = Job(objective, 8, 1e-3, 0, 3, settings=(*WIDTHS, *own, *SMALL))
    training = Training(job, held, frozen.BASE)
    batch = next(batches(held, batch_size=8, seed=0))
    photos = held.items[batch.indices.numpy()][:, 0]
    images = training.model.context.image(batch.images).pooled
    texts = training.model.context.text(batch.tokens, batch.token_mask).pooled
    assert torch.equal(images, torch.from_numpy(held.images[photos].reshape(8, 48)[:, :40]))
    captions = batch.tokens[:, 1] - 3  # after three special words
    assert (captions.numpy() // CAPTIONS == photos).all()
    assert torch.equal(texts, training.model.context.text.table[captions])
    before = {k: v.clone() for k, v in training.model.state_dict().items()}
    training.advance(3)
    assert training.step == 3
    after = training.model.state_dict()
    assert not torch.equal(
        before["context.image_head.layers.0.weight"], after["context.image_head.layers.0.weight"]
    )
    assert not any("table" in name for name in after)
    assert 0 <= trained_recalls(training)["test"] <= 1


def test_training_columns_have_mean_0_and_variance_1_and_constant_ones_are_zeros(
    tmp_path: Path,
) -> None:
    make_up_features(tmp_path, 40)
    images = np.load(tmp_path / "images.npy")
    images[:, 1] = 7.0
    np.save(tmp_path / "images.npy", images)
    held = open_features(tmp_path, 40, 32)
    train = held.images[held.items[:, 0]].reshape(-1, 48)[:, :40]
    assert np.allclose(np.delete(train, 1, axis=1).std(axis=0), 1, atol=1e-4)
    assert np.allclose(train.mean(axis=0), 0, atol=1e-4)
    assert (train[:, 1] == 0).all()


def test_folding_fills_up_with_zeros() -> None:
    """Four numbers need channels of 2 x 2: three times four places, the rest zeros."""
    image = folded(np.array([[1, 2, 3, 4]], dtype=np.float32))
    assert image.shape == (1, 3, 2, 2)
    assert image.flatten().tolist() == [1, 2, 3, 4] + 8 * [0]


def test_held_out_photos_have_five_captions_and_are_never_trained_on(held: Held) -> None:
    validation = held.held_out["validation"]
    assert len(validation.texts) == CAPTIONS * len(validation.images) == 50
    assert validation.image_of_text.tolist()[:6] == [0, 0, 0, 0, 0, 1]
    rows = [set(data.indices) for data in held.held_out.values()]
    assert not set(held.items[:, 0].tolist()) & (rows[0] | rows[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_caption_is_nearer_to_another_of_its_photo_than_to_others(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean-pooled MiniLM tells captions of different photos apart without any training."""
    monkeypatch.setenv("TIJEPA_REAL_DATA", str(real_data))
    keep_features(tmp_path, photos=12)
    assert len(json.loads((tmp_path / "photos.json").read_text())) == 12
    images, texts = np.load(tmp_path / "images.npy"), np.load(tmp_path / "texts.npy")
    assert images.shape == (12, 384)
    means = torch.nn.functional.normalize(torch.from_numpy(texts[:, :384]), dim=1)
    likeness = means[0::CAPTIONS] @ means[1::CAPTIONS].T
    assert (likeness.argmax(dim=1) == torch.arange(12)).float().mean() > 0.7
