"""The energy of captions with their own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tijepa.data.features import FeatureTable, RowFeatures, StoreFeatures
from tijepa.errors import ConfigError, DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.moments import Moments
from tijepa.search.pair_energies import (
    FoldedEnergies,
    PairEnergies,
    caption_energies,
    check_keep,
    folded_energies,
    judged_by,
    keep_best,
    match_probabilities,
)
from tijepa.search.vector_store import Chunk, VectorStore


@pytest.fixture
def vector_store(tmp_path: Path) -> VectorStore:
    """Rows 0, 2 and 3 have images (1, 0), (0, 2), (3, 0); rows 0, 1 and 3 captions, 3 two."""
    made = VectorStore(tmp_path / "vectors", 2)
    made.append(
        Chunk(0, 4, "", 3, 4, 0),
        {
            "images": np.array([[1, 0], [0, 2], [3, 0]], np.float32),
            "texts": np.array([[5, 5], [1, 1], [2, 0], [-1, 7]], np.float32),
        },
        {"images": np.array([0, 2, 3]), "texts": np.array([0, 1, 3, 3])},
    )
    return made


def test_energies_by_hand(vector_store: VectorStore) -> None:
    """−(1·5 + 0·5) = −5 for row 0; −3·2 = −6 and 3 for the captions of row 3; 1 and 2 no pairs."""
    measured = caption_energies(vector_store, "calibrated")
    assert measured.rows.tolist() == [0, 3, 3]
    assert measured.captions.tolist() == [0, 0, 1]
    assert measured.energies.tolist() == [-5, -6, 3]
    assert caption_energies(vector_store, "cosine").energies.tolist() == [-4, -5, 4]


def test_only_the_rows_that_were_asked_for_are_judged(vector_store: VectorStore) -> None:
    assert caption_energies(vector_store, "calibrated", np.array([1, 2, 3])).rows.tolist() == [3, 3]
    with pytest.raises(DataError, match="no pair of an image and a caption"):
        caption_energies(vector_store, "calibrated", np.array([1, 2]))


def test_the_share_of_lowest_energy_is_kept() -> None:
    """0.6 of four is 2.4, so 2; of the two energies of 1 the first; at least one stays."""
    measured = PairEnergies(np.arange(4), np.zeros(4, np.int64), np.array([1.0, 5.0, 1.0, -2.0]))
    assert keep_best(measured, 0.6).tolist() == [True, False, False, True]
    assert keep_best(measured, 0.01).tolist() == [False, False, False, True]


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.2, 80.0, float("nan")])
def test_a_share_beyond_its_bounds_is_refused(keep: float) -> None:
    with pytest.raises(ConfigError, match="must lie between 0 and 1, both excluded"):
        check_keep(keep)


def features_of(images: torch.Tensor, texts: torch.Tensor) -> StoreFeatures:
    """Cached pooled tokens of rows with one image and two captions each, all of one split."""
    rows = np.arange(len(images))
    image = FeatureTable({"rows": np.ones(len(images), int), "pooled": images.numpy()}, {})
    text = FeatureTable({"rows": np.full(len(images), 2), "pooled": texts.numpy()}, {})
    return {
        "image": RowFeatures([(image, rows)], len(rows)),
        "text": RowFeatures([(text, rows)], len(rows)),
    }


def planted(
    count: int, width: int, wrong: float
) -> tuple[StoreFeatures, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Captions that are their image's token turned, but for a share that is another's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, width, generator=generator)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    texts = (images @ turn).repeat_interleave(2, 0)
    texts += 0.5 * torch.randn(texts.shape, generator=generator)
    bad = torch.rand(2 * count, generator=generator) < wrong
    texts[bad] = texts[bad].roll(7, 0)
    rows = np.repeat(np.arange(count), 2)
    return features_of(images, texts), rows, np.tile([0, 1], count), bad.numpy()


def test_out_of_sample_energies_tell_wrong_pairs_that_were_trained_on() -> None:
    features, rows, captions, bad = planted(200, 12, wrong=0.2)
    folded = FoldedEnergies(features, rows, captions, 0.1, 0.03)
    worst = np.argsort(folded.energies)[-bad.sum() :]
    assert bad[worst].mean() > 0.9
    chances = match_probabilities(folded.match, folded.energies)
    assert chances is not None
    assert chances[~bad].mean() > chances[bad].mean() + 0.4


def test_no_pair_is_judged_by_itself() -> None:
    """As many numbers as pairs: in sample a regression finds any pairing, out of sample none.

    Captions are another image's throughout, and the energies say so: they are not below those of
    the same captions shuffled once more.
    """
    features, rows, captions, _ = planted(60, 60, wrong=1.0)
    folded = FoldedEnergies(features, rows, captions, 0.01, 0.001)
    inside = Moments(60, 60)
    x, y = folded._tokens(rows, captions)
    inside.add(x, y)
    fitted = inside.directions().calibrated(0.01, 0.001)
    memorised = fitted.to_text.energy(x, y).diagonal().mean()
    others = fitted.to_text.energy(x, y.roll(7, 0)).diagonal().mean()
    assert float(memorised) < float(others) - 1
    assert folded.match.slope == pytest.approx(0.0, abs=0.05)


def test_a_caption_of_the_same_row_lies_in_the_same_fold() -> None:
    """Or the other caption of its image would give it away: both rows of equal energies."""
    features, rows, captions, _ = planted(40, 6, wrong=0.0)
    energies = FoldedEnergies(features, rows, captions, 0.1, 0.03).energies
    back = np.arange(len(rows))[::-1]
    again = FoldedEnergies(features, rows[back], captions[back], 0.1, 0.03).energies
    np.testing.assert_allclose(again[back], energies)


def test_few_pairs_of_frozen_encoders_are_judged_by_folds_and_many_as_they_are() -> None:
    """12 numbers of both tokens: below 18 pairs by folds, in docs/log.md why."""
    features, rows, _, _ = planted(40, 6, wrong=0.0)
    assert judged_by(features, rows[:17]) == "folds"
    assert judged_by(features, rows[:18]) == "many"
    assert judged_by(features, rows[:4]) == "memory"  # two images make no five folds
    for missing in ("image", "text"):
        some = {name: one for name, one in features.items() if name != missing}
        assert judged_by(some, rows) == "memory"


def test_folds_take_the_shrinkage_that_the_model_chose() -> None:
    features, rows, captions, _ = planted(40, 6, wrong=0.0)
    embedder = Embedder.__new__(Embedder)
    embedder.calibration = None
    found = folded_energies(embedder, features, rows, captions).energies
    np.testing.assert_allclose(found, FoldedEnergies(features, rows, captions, 0.35, 0.03).energies)
