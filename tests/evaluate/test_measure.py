from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import tijepa
from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.features import FeatureTable, SplitFeatures
from tijepa.data.pairs import Item, PairSource, StoredImage
from tijepa.errors import DataError, NonFiniteError
from tijepa.evaluate.measure import calibrate, calibration_pairs, evaluation_set, measure
from tijepa.evaluate.retrieval import match_energies
from tijepa.inference.calibration_selection import select_calibration
from tijepa.inference.embedder import Embedder
from tijepa.inference.match_probability import fit_match_probability
from tijepa.inference.moments import fit_calibration
from tijepa.inference.results import RunResults
from tijepa.training.build import build_model


@dataclass
class Shades(PairSource):
    """Grey images, item k of shade k; `lacking` ones have no image, `broken` ones raise."""

    captioned: list[int] = field(default_factory=lambda: [1] * 6)
    lacking: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captioned)

    def item_id(self, index: int) -> str:
        return f"item {index}"

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [
            Item(texts, None if i in self.lacking else Shade(self, i))
            for i, texts in zip(indexes, self.texts(indexes), strict=True)
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [tuple(f"shade {i} wording {k}" for k in range(self.captioned[i])) for i in indexes]


@dataclass(frozen=True)
class Shade(StoredImage):
    source: Shades
    index: int

    def pixels(self, min_side: int) -> np.ndarray:
        self.source.asked.append(self.index)
        if self.index in self.source.broken:
            raise DataError("damaged")
        return np.full((4, 4, 3), self.index % 256, np.uint8)


@pytest.fixture
def embedder(tiny_run: Path) -> Embedder:
    """Loaded anew for each test, so that it may be spoiled."""
    return tijepa.load(tiny_run)


# --- evaluation sets --------------------------------------------------------------------------


def test_items_without_both_modalities_or_unreadable_are_passed_over() -> None:
    source = Shades([1, 0, 2, 1, 1, 3], lacking=(0,), broken=(3,))
    data = evaluation_set(source, items=9, captions=0, image_size=4)
    assert data.indices == [2, 4, 5]
    assert data.image_of_text.tolist() == [0, 0, 1, 2, 2, 2]
    assert data.first_text.tolist() == [0, 2, 3]
    assert data.texts[0] == "shade 2 wording 0"
    assert data.images.shape == (3, 3, 4, 4)
    shades = ((data.images[:, 0, 0, 0] + 1) * 127.5).round().tolist()
    assert shades == [2.0, 4.0, 5.0]


def test_no_more_items_are_read_than_asked_for() -> None:
    source = Shades([1] * 6)
    data = evaluation_set(source, items=3, captions=0, image_size=4)
    assert data.indices == [0, 1, 2]
    assert source.asked == [0, 1, 2]


@pytest.mark.parametrize(("captions", "texts"), [(0, 9), (1, 3), (2, 6), (7, 9)])
def test_captions_bounds_the_texts_of_each_image_and_0_takes_all(captions: int, texts: int) -> None:
    data = evaluation_set(Shades([3, 3, 3]), items=9, captions=captions, image_size=4)
    assert len(data.texts) == texts
    assert data.image_of_text.bincount().tolist() == [texts // 3] * 3


@pytest.mark.parametrize("captioned", [[0, 0], [1, 0]])
def test_fewer_than_two_items_are_an_error(captioned: list[int]) -> None:
    count = sum(captioned)
    with pytest.raises(DataError, match=f"^{count} items with image and text are too few"):
        evaluation_set(Shades(captioned), items=9, captions=0, image_size=4)


def test_calibration_takes_every_caption_of_at_most_2048_items() -> None:
    data = calibration_pairs(Shades([5] * 2050), 4)
    assert len(data.images) == 2048
    assert len(data.texts) == 5 * 2048


def test_calibration_takes_up_to_8192_items_whose_pooled_features_are_kept() -> None:
    """Features of one number: 8,200 rows of both modalities. Tokens beside them would be large."""
    count = 8200

    def table(**more: np.ndarray) -> FeatureTable:
        pooled = np.arange(count, dtype=np.float32)[:, None]
        return FeatureTable({"rows": np.ones(count, np.int64), "pooled": pooled, **more}, {})

    source = Shades([1] * count)
    plain = calibration_pairs(source, 4, features=SplitFeatures(table(), table()))
    assert len(plain.texts) == 8192
    assert source.asked == []  # no image was decoded
    tokens = table(tokens=np.zeros((count, 1), np.uint16), lengths=np.ones(count, np.int64))
    assert not SplitFeatures(table(), tokens).small
    assert not SplitFeatures(table()).small


# --- calibration ------------------------------------------------------------------------------


def test_calibration_fits_every_caption_with_its_image(
    embedder: Embedder, pairs_folder: Path
) -> None:
    source = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("train")
    for captions in (0, 1):
        data = evaluation_set(source, items=20, captions=captions, image_size=32)
        own = data.image_of_text.tolist()
        assert len(own) == (20 if captions else 40)
        images = torch.stack([data.images[k] for k in own])
        e = embedder.embeddings_of_inputs(images, data.texts)
        fitted = calibrate(embedder, data).state()
        for name, value in fit_calibration(e).state().items():
            assert torch.allclose(fitted[name], value, atol=1e-4, rtol=1e-3), name


@pytest.mark.parametrize("name", ["tijepa", "clip"])
def test_held_out_pairs_choose_the_shrinkage_and_fit_the_probability_of_the_default_energy(
    name: str, tiny_config: Callable[..., RunConfig], embedder: Embedder, pairs_folder: Path
) -> None:
    """CLIP has the probability of its cosine energy."""
    torch.manual_seed(0)
    model = build_model(tiny_config(f"objective.name={name}"), embedder.tokenizer.vocab_size)
    own = Embedder(model, embedder.tokenizer, embedder.card)
    splits = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01)
    pairs = calibration_pairs(splits.split("train"), 32)
    held_out = evaluation_set(splits.split("test"), items=12, captions=0, image_size=32)
    own.calibration = calibrate(own, pairs, held_out)
    assert own.default_form == ("calibrated" if name == "tijepa" else "cosine")
    first = held_out.texts[::2]
    e = own.embeddings_of_inputs(held_out.images, first)
    images = pairs.images[pairs.image_of_text]
    chosen = select_calibration(own.embeddings_of_inputs(images, pairs.texts), e)
    assert own.calibration.heads.shrinkage == chosen.heads.shrinkage
    assert own.calibration.heads.ridge == chosen.heads.ridge
    assert (own.calibration.direct is None) == (chosen.direct is None)
    matched, shuffled = match_energies(own.energy_of(e, own.default_form))
    expected = fit_match_probability(matched, shuffled.flatten())
    assert own.match is not None
    assert own.match.slope == pytest.approx(expected.slope, rel=1e-2, abs=1e-9)
    assert own.match.intercept == pytest.approx(expected.intercept, rel=1e-2, abs=1e-3)


def test_without_held_out_pairs_there_is_no_probability(
    embedder: Embedder, pairs_folder: Path
) -> None:
    splits = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01)
    fitted = calibrate(embedder, calibration_pairs(splits.split("train"), 32))
    assert fitted.match is None
    assert (fitted.heads.shrinkage, fitted.direct) == (0.5, None)


def test_embeddings_that_are_not_finite_cannot_be_calibrated(
    embedder: Embedder, pairs_folder: Path
) -> None:
    with torch.no_grad():
        for parameter in embedder.model.context.image_head.parameters():
            parameter.fill_(torch.nan)
    data = calibration_pairs(
        open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("train"), 32
    )
    with pytest.raises(NonFiniteError, match="image embeddings are not finite"):
        calibrate(embedder, data)


# --- measuring --------------------------------------------------------------------------------


def test_results_have_every_part_and_go_through_json(
    embedder: Embedder, pairs_folder: Path
) -> None:
    data = evaluation_set(
        open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("test"),
        items=12,
        captions=0,
        image_size=32,
    )
    results = measure(embedder, data).results
    assert results.form == "calibrated"
    assert list(results.energies) == ["calibrated", "cosine", "squared_l2"]
    assert results.retrieval is results.energies["calibrated"]
    assert (results.retrieval.num_images, results.retrieval.num_texts) == (12, 24)
    assert results.retrieval.chance_at_1 == 1 / 12
    for direction in results.retrieval.directions.values():
        assert list(direction.recalls) == sorted(direction.recalls)
        assert all(0 <= recall <= 1 for recall in direction.recalls)
        assert direction.median_rank >= 1
    collapse = results.collapse
    assert collapse is not None
    assert collapse.image.dimensions == 8
    assert collapse.gap == pytest.approx(
        collapse.shuffled_energy - collapse.matched_energy, abs=1e-9
    )
    assert RunResults.from_json(results.to_json()) == results


def test_matched_and_shuffled_energies_are_those_of_first_captions(
    embedder: Embedder, pairs_folder: Path
) -> None:
    """The diagonal of the images × first captions matrix, and its half-way shifted diagonal."""
    data = evaluation_set(
        open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("test"),
        items=10,
        captions=0,
        image_size=32,
    )
    measured = measure(embedder, data)
    energy = embedder.energy_of(measured.embeddings, "squared_l2")[:, ::2]
    assert measured.search.pair.shape == (10, 20)
    collapse = measured.results.collapse
    assert collapse is not None
    rows = torch.arange(10)
    assert math.isclose(collapse.matched_energy, float(energy.diagonal().mean()), rel_tol=1e-5)
    shifted = float(energy[rows, (rows + 5) % 10].mean())
    assert math.isclose(collapse.shuffled_energy, shifted, rel_tol=1e-5)


def constant_image_head(embedder: Embedder) -> None:
    last = [
        m for m in embedder.model.context.image_head.modules() if isinstance(m, torch.nn.Linear)
    ]
    torch.nn.init.zeros_(last[-1].weight)


def constant_text_head(embedder: Embedder) -> None:
    last = [m for m in embedder.model.context.text_head.modules() if isinstance(m, torch.nn.Linear)]
    torch.nn.init.zeros_(last[-1].weight)


def constant_image_encoder(embedder: Embedder) -> None:
    for parameter in embedder.model.context.image.parameters():
        torch.nn.init.zeros_(parameter)


def constant_everything(embedder: Embedder) -> None:
    constant_image_head(embedder)
    constant_text_head(embedder)


def nothing_finite(embedder: Embedder) -> None:
    for parameter in embedder.model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)


@pytest.mark.parametrize(
    "spoil",
    [
        constant_image_head,
        constant_text_head,
        constant_image_encoder,
        constant_everything,
        nothing_finite,
    ],
)
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_collapsed_model_is_reported_as_collapsed_and_does_not_retrieve(
    spoil: Callable[[Embedder], None], calibrated: bool, embedder: Embedder, pairs_folder: Path
) -> None:
    """The canary. Calibrated anew where that is possible, which must not hide it."""
    splits = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01)
    spoil(embedder)
    embedder.calibration = None
    if calibrated and spoil is not nothing_finite:
        embedder.calibration = calibrate(embedder, calibration_pairs(splits.split("train"), 32))
    data = evaluation_set(splits.split("test"), items=12, captions=0, image_size=32)
    results = measure(embedder, data).results
    assert results.collapse is not None
    assert results.collapse.verdict == "collapsed"
    assert results.collapse.reason
    json.dumps(results.to_json(), allow_nan=False)
    for one in results.energies.values():
        assert one.text_to_image.recall_at_1 <= 0.5


def test_a_model_that_retrieves_by_construction_is_healthy(
    tiny_config: Callable[..., RunConfig], embedder: Embedder
) -> None:
    """The other side of the canary: CLIP whose towers read off the same random vectors."""
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(60, 8), dim=1)
    clip = Embedder(
        build_model(tiny_config("objective.name=clip"), embedder.tokenizer.vocab_size),
        embedder.tokenizer,
        embedder.card,
    )
    data = evaluation_set(Shades([1] * 60), items=60, captions=1, image_size=32)
    e = clip.embeddings_of_inputs(data.images, data.texts)
    same = type(e)(vectors, vectors, vectors, vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "embeddings_of_inputs", lambda images, texts: same)
        results = measure(clip, data).results
    assert results.form == "cosine"
    assert results.collapse is not None
    assert results.collapse.verdict == "healthy"
    assert results.collapse.matched_energy == pytest.approx(0, abs=1e-6)
    assert results.retrieval is not None
    assert results.retrieval.image_to_text.recall_at_1 == 1.0
