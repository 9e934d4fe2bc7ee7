"""How well each caption of a store fits its own image, and pseudo-pairs of what has no partner.

Shape letters: i images, t texts, j numbers of a joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.data.features import StoreFeatures
from tijepa.errors import ConfigError, DataError
from tijepa.inference.calibration import Directions
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form
from tijepa.inference.match_probability import MatchProbability, fit_match_probability
from tijepa.inference.moments import Moments
from tijepa.search.vector_store import SIDES, Side, Vectors, VectorStore

_BLOCK = 65_536
FOLDS = 5
_FITTED = (0.35, 0.03)  # shrinkage and ridge where the model has chosen none
MANY = 1.5  # pairs for each number of both pooled tokens, from which folds tell less (docs/log.md)


@dataclass(frozen=True)
class PairEnergies:
    """n pairs: the store row of each, the number of its caption among the row's, its energy."""

    rows: NDArray[np.int64]
    captions: NDArray[np.int64]
    energies: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


def caption_energies(
    vector_store: VectorStore, form: Form, rows: NDArray[np.int64] | None = None
) -> PairEnergies:
    """The energy of every caption with its own image, of some store rows or of all.

    Items that lack an image or captions are no pairs. Raises `DataError` where no pair is left.
    """
    images, texts = vector_store.vectors("images"), vector_store.vectors("texts")
    paired = np.isin(texts.rows, images.rows)
    if rows is not None:
        paired &= np.isin(texts.rows, rows)
    chosen = np.flatnonzero(paired)
    if not len(chosen):
        raise DataError("there is no pair of an image and a caption to judge")
    own = np.searchsorted(images.rows, texts.rows[chosen])
    energies = energies_of_rows(images.values, own, texts.values, chosen, form)
    return PairEnergies(texts.rows[chosen], texts.numbers(chosen), energies)


class FoldedEnergies:
    """Energies of pairs by the closed form between pooled tokens, fitted without their own fold.

    What a model was trained on it has memorised where pairs are few: its energies there are low for
    wrong pairs too. Here every fifth row is judged by the regression of the others
    (`inference/calibration.py`, the direct expert). `match` is fitted to the pairs and to shuffled
    ones.
    """

    def __init__(
        self,
        features: StoreFeatures,
        rows: NDArray[np.int64],
        captions: NDArray[np.int64],
        shrinkage: float,
        ridge: float,
    ) -> None:
        self._features = features
        order = np.random.default_rng(0).permutation(np.unique(rows))
        fold_of_row = dict(zip(order.tolist(), np.arange(len(order)) % FOLDS, strict=True))
        fold = np.array([fold_of_row[row] for row in rows.tolist()])
        places = [np.flatnonzero(fold == k) for k in range(FOLDS)]
        parts = [self._moments(rows[own], captions[own]) for own in places]
        every = Moments(*parts[0].widths)
        for part in parts:
            every.merge(part)
        self.energies = np.empty(len(rows))
        shuffled = np.empty(len(rows))
        for own, part in zip(places, parts, strict=True):
            fitted = every.without(part).directions().calibrated(shrinkage, ridge)
            for some in np.array_split(own, max(1, len(own) // _BLOCK)):
                x, y = self._tokens(rows[some], captions[some])
                self.energies[some] = _paired(fitted, x, y)
                shuffled[some] = _paired(fitted, x, y.roll(len(y) // 2, 0))  # another row's
        self.match: MatchProbability = fit_match_probability(
            torch.from_numpy(self.energies), torch.from_numpy(shuffled)
        )

    def _moments(self, rows: NDArray[np.int64], captions: NDArray[np.int64]) -> Moments:
        x, y = self._tokens(rows[:1], captions[:1])
        found = Moments(x.shape[1], y.shape[1])
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            found.add(*self._tokens(rows[part], captions[part]))
        return found

    def _tokens(
        self, rows: NDArray[np.int64], captions: NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled tokens of the images and of the captions with these numbers."""
        own, of = np.unique(rows, return_inverse=True)
        x = torch.cat([self._features["image"].pooled(row) for row in own.tolist()])
        texts = [self._features["text"].pooled(row) for row in own.tolist()]
        first = np.cumsum([0, *map(len, texts[:-1])])
        return x[of], torch.cat(texts)[first[of] + captions]


def judged_by(
    features: StoreFeatures, rows: NDArray[np.int64]
) -> Literal["folds", "many", "memory"]:
    """How pairs that a run was trained on are judged; `features` are cached ones of the store.

    By folds where pairs are few for the numbers of frozen encoders. Where they are many the model's
    own energies tell more, although it saw them; so are those of encoders that were trained, which
    have a memory.
    """
    image, text = features.get("image"), features.get("text")
    some = np.unique(rows).tolist()
    if image is None or text is None or len(some) < FOLDS:
        return "memory"
    if not all(image.covers(row) and text.covers(row) for row in some):
        return "memory"
    numbers = image.pooled(some[0]).shape[1] + text.pooled(some[0]).shape[1]
    return "many" if len(rows) >= MANY * numbers else "folds"


def folded_energies(
    embedder: Embedder,
    features: StoreFeatures,
    rows: NDArray[np.int64],
    captions: NDArray[np.int64],
) -> FoldedEnergies:
    """Out-of-sample energies of pairs, with shrinkage and ridge that the model has chosen."""
    direct = embedder.calibration.direct if embedder.calibration else None
    chosen = _FITTED if direct is None else (direct.shrinkage, direct.ridge or _FITTED[1])
    return FoldedEnergies(features, rows, captions, *chosen)


def _paired(fitted: Directions, x: torch.Tensor, y: torch.Tensor) -> NDArray[np.float64]:
    """The energy of row k of the images with row k of the texts."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for direction, of, target in ((fitted.to_text, x, y), (fitted.to_image, y, x)):
        u, v = direction.of_prediction(of), direction.of_target(target)
        total += u.own + v.own - (u.w * v.w).sum(dim=1)
    return (total / 2).numpy()


def energies_of_rows(
    images: NDArray[np.floating],
    image_of_pair: NDArray[np.int64],
    texts: NDArray[np.floating],
    text_of_pair: NDArray[np.int64],
    form: Form,
) -> NDArray[np.float64]:
    """The energy of each pair of an image's and a text's row, in float64, block by block."""
    energies = np.empty(len(image_of_pair))
    for start in range(0, len(energies), _BLOCK):
        part = slice(start, start + _BLOCK)
        x = images[image_of_pair[part]].astype(np.float64)
        energies[part] = -(x * texts[text_of_pair[part]]).sum(axis=1)
    return energies + (1.0 if form == "cosine" else 0.0)


def check_keep(keep: float) -> None:
    """`ConfigError` where `keep` is no share that leaves something and drops something."""
    if not 0.0 < keep < 1.0:
        raise ConfigError(f"`keep` is {keep}: it must lie between 0 and 1, both excluded")


def kept_count(keep: float, total: int) -> int:
    """How many of `total` the share `keep` is: rounded, at least one."""
    return max(1, round(keep * total))


def keep_best(measured: PairEnergies, keep: float) -> NDArray[np.bool_]:
    """Which pairs are kept: the share `keep` of lowest energy, of equal energies the first ones."""
    kept = np.zeros(len(measured), bool)
    order = np.argsort(measured.energies, kind="stable")
    kept[order[: kept_count(keep, len(measured))]] = True
    return kept


def match_probabilities(
    match: MatchProbability | None, energies: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The probability of match of each energy, None where the model has none."""
    if match is None:
        return None
    found: NDArray[np.float64] = match.probability(torch.from_numpy(energies)).numpy()
    return found


# Pseudo-pairs: the text that each image without caption is nearest to, and the other way round.

_TILE = 8192  # images and texts multiplied at once: 256 MiB of products


@dataclass(frozen=True)
class PseudoPairs:
    """n pseudo-pairs, lowest energy first: the store rows of image and text, and the energy.

    `mutual` are those in which each chose the other.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    energies: NDArray[np.float64]
    mutual: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.energies)

    def best(self, share: float) -> PseudoPairs:
        """The share of lowest energy, as `kept_count` says."""
        kept = slice(kept_count(share, len(self)))
        return PseudoPairs(
            self.images[kept], self.texts[kept], self.energies[kept], self.mutual[kept]
        )


def unpaired(vector_store: VectorStore, rows: NDArray[np.int64]) -> dict[Side, NDArray[np.int64]]:
    """Positions of the vectors whose store row is one of `rows` and lacks the other modality.

    Raises `DataError` where either kind is missing.
    """
    images, texts = (vector_store.vectors(side).rows for side in SIDES)
    found: dict[Side, NDArray[np.int64]] = {
        "images": np.flatnonzero(np.isin(images, rows) & ~np.isin(images, texts)),
        "texts": np.flatnonzero(np.isin(texts, rows) & ~np.isin(texts, images)),
    }
    if not len(found["images"]) or not len(found["texts"]):
        raise DataError(
            f"{len(found['images']):,} images without caption and {len(found['texts']):,}"
            " captions without image: pseudo-pairs need some of both, in the train split"
        )
    return found


def find_pseudo_pairs(
    vector_store: VectorStore,
    form: Form,
    alone: dict[Side, NDArray[np.int64]],
    advance: Callable[[int], None] = lambda count: None,
) -> PseudoPairs:
    """Each image of `alone` with the text of lowest energy, and each text with its image.

    `alone` is what `unpaired` found. A store row of several captions is one text: its energy
    is the mean over them. `advance` is told how many images were compared.
    """
    images, texts = vector_store.vectors("images"), vector_store.vectors("texts")
    rows, means = _row_means(texts, alone["texts"])
    values = images.values[alone["images"]].astype(np.float32)
    at_image, at_text, mutual = nearest_pairs(values, means, advance)
    energies = energies_of_rows(values, at_image, means, at_text, form)
    order = np.argsort(energies, kind="stable")
    return PseudoPairs(
        images.rows[alone["images"][at_image[order]]],
        rows[at_text[order]],
        energies[order],
        mutual[order],
    )


def nearest_pairs(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Positions in (i, j) and (t, j) of every row and its largest inner product on the other side.

    Each pair once, in order, and whether it is the largest of both. All products are computed,
    block by block; of equal ones the first counts.
    """
    best_text, best_image = _Best(len(images)), _Best(len(texts))
    for a in range(0, len(images), _TILE):
        block = torch.from_numpy(np.ascontiguousarray(images[a : a + _TILE]))
        for b in range(0, len(texts), _TILE):
            products = block @ torch.from_numpy(np.ascontiguousarray(texts[b : b + _TILE])).T
            best_text.see(a, products.max(dim=1), b)
            best_image.see(b, products.max(dim=0), a)
        advance(len(block))
    chosen, choosing = best_text.place.numpy(), best_image.place.numpy()
    by_image = np.stack([np.arange(len(images)), chosen], axis=1)
    by_text = np.stack([choosing, np.arange(len(texts))], axis=1)
    pairs, count = np.unique(np.concatenate([by_image, by_text]), axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], count == 2


class _Best:
    """For each of `count` rows the largest product so far and where it was."""

    def __init__(self, count: int) -> None:
        self.value = torch.full((count,), -torch.inf)
        self.place = torch.zeros(count, dtype=torch.int64)

    def see(self, start: int, found: torch.return_types.max, offset: int) -> None:
        part = slice(start, start + len(found.values))
        better = found.values > self.value[part]
        self.value[part] = torch.where(better, found.values, self.value[part])
        self.place[part] = torch.where(better, found.indices + offset, self.place[part])


def _row_means(
    texts: Vectors, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The store rows of some captions, each once, and the mean vector of each row's captions."""
    rows, first, counts = np.unique(texts.rows[places], return_index=True, return_counts=True)
    sums = np.add.reduceat(texts.values[places], first, axis=0, dtype=np.float32)
    return rows, (sums / counts[:, None]).astype(np.float32)
