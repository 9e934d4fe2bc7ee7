from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tijepa
from tijepa.data.scenes import Scenes
from tijepa.data.scenes.shapes import SHAPES
from tijepa.errors import ConfigError, DataError
from tijepa.export.mteb_encoder import MtebEncoder

pytestmark = pytest.mark.filterwarnings("ignore")  # mteb and what it imports warn of themselves


@pytest.fixture(scope="module")
def encoder(tiny_run: Path) -> MtebEncoder:
    return MtebEncoder(tijepa.load(tiny_run), "tests/tiny")


def photos(count: int) -> list[np.ndarray]:
    scenes = Scenes("test", count, image_size=32)
    return [scenes.image(index, 32) for index in range(count)]


def test_batches_of_images_texts_and_both_become_rows_of_length_one(encoder: MtebEncoder) -> None:
    """Of an item with both the row is the mean direction of image and text."""
    images, texts = photos(4), ["a red ball", "b", "c", "d"]
    one = encoder.encode([{"image": images[:3]}, {"image": images[3:]}])
    other = encoder.encode([{"text": texts}], task_metadata=None, hf_split="test", hf_subset="x")
    both = encoder.encode([{"image": images, "text": texts}])
    assert one.shape == other.shape == both.shape == (4, 16)
    for rows in (one, other, both):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    mean = (one + other) / np.linalg.norm(one + other, axis=1, keepdims=True)
    assert np.allclose(both, mean, atol=1e-5)


def test_similarity_is_one_minus_the_cosine_energy(encoder: MtebEncoder) -> None:
    images, texts = photos(3), ["a red ball", "a blue square"]
    similarity = encoder.similarity(
        encoder.encode([{"image": images}]), encoder.encode([{"text": texts}])
    )
    energy = encoder.model.energy(images, texts, form="cosine")
    assert torch.allclose(similarity, 1 - energy, atol=1e-6)
    rows = encoder.encode([{"image": images}])
    assert torch.allclose(encoder.similarity_pairwise(rows, rows), torch.ones(3), atol=1e-5)
    assert encoder.similarity(rows[0], rows[1]).shape == (1, 1)


def test_calibrated_similarity_is_minus_the_calibrated_energy(tiny_run: Path) -> None:
    """Inner products, in nats; of a pair in one batch there is no calibrated row."""
    model = tijepa.load(tiny_run)
    encoder = MtebEncoder(model, form="calibrated")
    images, texts = photos(3), ["a red ball", "a blue square"]
    rows, others = encoder.encode([{"image": images}]), encoder.encode([{"text": texts}])
    energy = model.energy(images, texts, form="calibrated")
    assert torch.allclose(encoder.similarity(rows, others), -energy, atol=1e-3, rtol=1e-4)
    assert encoder.mteb_model_meta.embed_dim == rows.shape[1] == others.shape[1]
    with pytest.raises(DataError, match="use form='cosine'"):
        encoder.encode([{"image": images[:2], "text": texts}])


def test_another_form_or_a_missing_calibration_is_refused(tiny_run: Path) -> None:
    model = tijepa.load(tiny_run)
    with pytest.raises(ConfigError, match="form is 'squared_l2': must be 'cosine' or 'calibrated'"):
        MtebEncoder(model, form="squared_l2")
    with pytest.raises(ConfigError, match="needs a calibration"):
        MtebEncoder(model.calibrated_by(None), form="calibrated")


def test_a_batch_without_image_and_text_is_refused(encoder: MtebEncoder) -> None:
    with pytest.raises(DataError, match="holds audio: neither image nor text"):
        encoder.encode([{"audio": [1]}])


@pytest.mark.slow
def test_a_zero_shot_task_of_mteb_evaluates_the_model(
    encoder: MtebEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The accuracy that mteb finds is that of the lowest cosine energy."""
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    mteb = pytest.importorskip("mteb")
    task, images, labels = shapes_task()
    results = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
    found = results.task_results[0].scores["test"][0]["accuracy"]
    prompts = [f"a {shape}" for shape in SHAPES]
    lowest = encoder.model.energy(images, prompts, form="cosine").argmin(dim=1)
    assert found == pytest.approx(float((lowest == torch.tensor(labels)).double().mean()))


def shapes_task() -> tuple[Any, list[Any], list[int]]:
    """A task of 24 scenes of 32 pixels, named by the shape of their first object, made here."""
    from datasets import Dataset, Features, Value
    from datasets import Image as HFImage
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
    from PIL import Image

    scenes = Scenes("test", 24, image_size=32)
    images = [Image.fromarray(pixels) for pixels in photos(24)]
    labels = [SHAPES.index(scenes.scene(index).objects[0].shape) for index in range(24)]

    class ShapesZeroShot(AbsTaskZeroShotClassification):
        metadata = TaskMetadata(
            name="ScenesShapesZeroShot",
            description="Shapes of drawn scenes.",
            reference=None,
            dataset={"path": "tijepa/scenes", "revision": "1"},
            type="ZeroShotClassification",
            category="i2t",
            modalities=["image", "text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation=None,
        )

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            features = Features({"image": HFImage(), "label": Value("int64")})
            rows = {"image": images, "label": labels}
            self.dataset = {"test": Dataset.from_dict(rows, features=features)}
            self.data_loaded = True

        def get_candidate_labels(self) -> list[str]:
            return [f"a {shape}" for shape in SHAPES]

    return ShapesZeroShot(), images, labels
