"""Evaluate a model on one split: embed once, then retrieval by every form of energy, collapse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.data.features import Features, SplitFeatures
from tijepa.data.images import prepare
from tijepa.data.pairs import Item, PairSource
from tijepa.errors import DataError, NonFiniteError
from tijepa.evaluate.collapse_metrics import (
    EVERYTHING,
    Learned,
    collapse_metrics,
    modality_readings,
)
from tijepa.evaluate.detect import Basis, detect_once
from tijepa.evaluate.retrieval import match_energies, retrieval
from tijepa.inference.calibration import Calibration, Matches
from tijepa.inference.calibration_selection import select_calibration
from tijepa.inference.closed_form import fit_closed_form, moments_of, solve
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embedded, Embeddings, SearchEnergies
from tijepa.inference.fine import FineCalibration, fit_fine
from tijepa.inference.match_probability import MatchProbability, fit_match_probability
from tijepa.inference.moments import fit_calibration
from tijepa.inference.results import Collapse, Retrieval, RunResults

CALIBRATION_PAIRS = 2048
CALIBRATION_FEATURES = 8192  # pairs whose pooled features are cached: they cost next to nothing
FINE_PAIRS = 256  # pairs whose words' residuals are fitted
_AT_ONCE = 64  # items read together


@dataclass(frozen=True)
class EvaluationSet:
    """Some items of a split that have both modalities, decoded and ready to encode.

    `image_of_text` ascends: the texts of one image stand together. Held in memory: an image of s
    pixels a side takes 12 s² bytes, so 5,000 of 64 pixels take 250 MB and of 224 pixels 3 GB;
    `data.eval_items` and `data.test_items` bound it. Where a frozen encoder's features are cached
    they stand in for what would be encoded; with `image_features` the images are empty.
    """

    images: Float[Tensor, "i 3 s s"]
    texts: list[str]
    image_of_text: Int[Tensor, " t"]
    indices: list[int]
    image_features: Features | None = None
    text_features: Features | None = None

    @property
    def first_text(self) -> Int[Tensor, " i"]:
        """The first text of each image."""
        return torch.searchsorted(self.image_of_text, torch.arange(len(self.images)))


@dataclass(frozen=True)
class Measured:
    """Embeddings of an evaluation set, the energies that retrieval goes by, and the results."""

    embeddings: Embeddings
    search: SearchEnergies
    results: RunResults


def evaluation_set(
    source: PairSource,
    *,
    items: int,
    captions: int,
    image_size: int,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    features: SplitFeatures | None = None,
) -> EvaluationSet:
    """The first `items` items of `source` with image and text; `captions` of each (0: all).

    Unreadable images are left out. What `features` hold is read instead of the images or beside
    the texts. Raises `DataError` where fewer than two items remain.
    """
    kept = features or SplitFeatures()
    size = image_size if kept.image is None else 0
    images = torch.empty(min(items, len(source)), 3, size, size)
    texts: list[str] = []
    numbers: list[int | None] = []
    owner: list[int] = []
    indices: list[int] = []
    for index, item in _items(source, images=kept.image is None):
        if len(indices) == items:
            break
        own = item.captions[: captions or None]
        if not own or not (item.image if kept.image is None else kept.image.count(index)):
            continue
        if item.image is not None:
            try:
                pixels = item.image.pixels(image_size)
            except DataError:  # listed as skipped when a batch needs it
                continue
            images[len(indices)] = prepare(pixels, image_size, mean, std)
        numbers += range(len(own))
        texts += own
        owner += [len(indices)] * len(own)
        indices.append(index)
    if len(indices) < 2:
        raise DataError(
            f"{len(indices)} items with image and text are too few to evaluate on: at least 2 are"
            " needed"
        )
    return EvaluationSet(
        images[: len(indices)],
        texts,
        torch.tensor(owner),
        indices,
        None if kept.image is None else kept.image.take(indices, [0] * len(indices)),
        None if kept.text is None else kept.text.take([indices[k] for k in owner], numbers),
    )


def _items(source: PairSource, *, images: bool) -> Iterator[tuple[int, Item]]:
    """All items in order, some at a time; without `images` their captions alone."""
    for start in range(0, len(source), _AT_ONCE):
        indexes = range(start, min(start + _AT_ONCE, len(source)))
        if images:
            items = source.read(indexes)
        else:
            items = [Item(texts, None) for texts in source.texts(indexes)]
        yield from zip(indexes, items, strict=True)


def calibration_pairs(
    source: PairSource,
    image_size: int,
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
    std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    features: SplitFeatures | None = None,
) -> EvaluationSet:
    """Up to 2,048 training images for the residual Gaussians; `DataError` where there are none.

    With all their captions; up to 8,192 images where both modalities are read as pooled features.
    """
    small = features is not None and features.small
    return evaluation_set(
        source,
        items=CALIBRATION_FEATURES if small else CALIBRATION_PAIRS,
        captions=0,
        image_size=image_size,
        mean=mean,
        std=std,
        features=features,
    )


def calibrate(
    embedder: Embedder,
    pairs: EvaluationSet,
    held_out: EvaluationSet | None = None,
    *,
    words: bool = False,
) -> Calibration:
    """Fit the calibrated energy on training pairs.

    On `held_out` pairs, one caption per image, its shrinkage and ridge are chosen and the
    probability of match is fitted; without them both are the default and there is no probability.
    With `words` the fine energy is fitted too, on some of those pairs or else of the training's.
    Raises `NonFiniteError` where an embedding is not finite.
    """
    every = torch.arange(len(pairs.texts))
    e = _finite(_embeddings(embedder, pairs, every).images(pairs.image_of_text))
    if held_out is None:
        found = fit_calibration(e).compressed(e)
    else:
        unseen = _aligned(embedder, held_out)
        found = _with_match(embedder, select_calibration(e, unseen).compressed(e), unseen)
    return replace(found, fine=_fine(embedder, held_out or pairs)) if words else found


def _fine(embedder: Embedder, pairs: EvaluationSet) -> FineCalibration:
    """The fine energy fitted on the first pairs, one caption of each image."""
    inputs = pairs.images if pairs.image_features is None else pairs.image_features
    texts = [pairs.texts[k] for k in pairs.first_text[:FINE_PAIRS].tolist()]
    model, tokenizer = embedder.model, embedder.tokenizer
    return fit_fine(model, tokenizer, embedder.card.max_tokens, inputs, texts)


def solve_closed_form(
    embedder: Embedder, features: SplitFeatures, held_out: EvaluationSet | None = None
) -> Calibration:
    """Solve the embedder's linear parts from cached training `features`; gives the energy.

    On `held_out` pairs ridge and shrinkage are chosen and the probability of match is fitted, as in
    `calibrate`. Raises `ConfigError` where the shared dimension exceeds that of one modality.
    """
    moments = moments_of(features)
    unseen = None if held_out is None else _aligned(embedder, held_out)
    pooled = None if unseen is None else (unseen.of_images.direct, unseen.of_texts.direct)
    found = fit_closed_form(moments, pooled)
    solve(embedder.model, moments, found)
    # its energy reads pooled tokens alone, which solving does not change
    return found if unseen is None else _with_match(embedder, found, unseen)


def closed_form_retrieval(
    features: SplitFeatures, held_out: EvaluationSet | None, judged: EvaluationSet
) -> Retrieval:
    """What the closed form finds among the `judged` pairs, from cached features alone.

    `features` are those of the training pairs; of the others the sets hold them.
    """
    pooled = None if held_out is None else _pooled(held_out, held_out.first_text)
    found = fit_closed_form(moments_of(features), pooled)
    assert found.direct is not None
    every = torch.arange(len(judged.texts))
    return retrieval(found.direct.energies(*_pooled(judged, every)), judged.image_of_text)


def _pooled(data: EvaluationSet, texts: Int[Tensor, " r"]) -> tuple[Embedded, Embedded]:
    """The cached features of all images and of the texts with these numbers."""
    assert data.image_features is not None
    assert data.text_features is not None
    image, text = data.image_features.pooled, data.text_features.pooled[texts]
    return Embedded(image, image), Embedded(text, text)


def _with_match(embedder: Embedder, chosen: Calibration, unseen: Embeddings) -> Calibration:
    """A calibration with the probability of match by its energies of aligned `unseen` pairs."""
    calibrated = embedder.calibrated_by(chosen)
    by = calibrated.search_energies_of(unseen, calibrated.default_form)
    return replace(chosen, match=Matches(*map(_match_probability, (by.pair, *by))))


def _match_probability(energy: Float[Tensor, "n n"]) -> MatchProbability:
    matched, shuffled = match_energies(energy)
    return fit_match_probability(matched, shuffled.flatten())


def _aligned(embedder: Embedder, pairs: EvaluationSet) -> Embeddings:
    """Embeddings of each image and its first text."""
    return _finite(_embeddings(embedder, pairs, pairs.first_text))


def _finite(e: Embeddings) -> Embeddings:
    for name, x in e.__dict__.items():
        if x is not None and not bool(torch.isfinite(x).all()):
            raise NonFiniteError(f"the model's {name} embeddings are not finite")
    return e


def _embeddings(embedder: Embedder, data: EvaluationSet, rows: Int[Tensor, " r"]) -> Embeddings:
    """Embeddings of all images and of the texts with these numbers."""
    images = data.images if data.image_features is None else data.image_features
    if data.text_features is not None:
        return embedder.embeddings_of_inputs(images, data.text_features.rows(rows))
    return embedder.embeddings_of_inputs(images, [data.texts[k] for k in rows.tolist()])


def measure(embedder: Embedder, data: EvaluationSet, learned: Learned = EVERYTHING) -> Measured:
    """Retrieval by every form of energy that the model has, and the collapse readings.

    The collapse readings take the first text of each image, and energies in the form that is ≥ 0
    and was trained on; a shuffled pair is an image with the text half the set away. The verdict is
    on what was `learned`.
    """
    e = _embeddings(embedder, data, torch.arange(len(data.texts)))
    default = embedder.default_form
    searched = {form: embedder.search_energies_of(e, form) for form in embedder.forms}
    by_form: dict[str, Retrieval] = {
        form: retrieval(energies, data.image_of_text) for form, energies in searched.items()
    }
    count = len(data.images)
    pairs = e.texts(data.first_text)
    plain = embedder.energy_of(pairs, "squared_l2" if embedder.predicts else "cosine")
    own = torch.arange(count)
    image, text = embedder.backend.before_target_norm(pairs)
    readings = collapse_metrics(
        pairs, {}, own=(image, text), modalities=learned.modalities, directions=learned.directions
    )
    verdict, reason = detect_once(readings, Basis.of(by_form[default]))
    collapse = Collapse(
        image=modality_readings(image),
        text=modality_readings(text),
        matched_energy=float(plain[own, own].double().mean()),
        shuffled_energy=float(plain[own, own.roll(count // 2)].double().mean()),
        verdict=verdict,
        reason=reason,
    )
    results = RunResults(
        retrieval=by_form[default], form=default, energies=by_form, collapse=collapse
    )
    return Measured(e, searched[default], results)
