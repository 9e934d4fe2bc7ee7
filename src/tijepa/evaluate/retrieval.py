"""Retrieval from energies, and the probability of match, measured.

Pure functions of energies. Whatever the model leaves undecided counts against it: ties and energies
that are not numbers push the rank down, so a model that gives every pair the same energy (collapse)
is ranked last everywhere and not, by luck of a sort, first.

Matched pairs are images with their own first text; shuffled pairs are images with the first text of
another image, some for each image, spread evenly over the set. Both kinds get half of the weight,
so every figure speaks of a prior of one half.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.errors import DataError
from tijepa.inference.embeddings import SearchEnergies
from tijepa.inference.match_probability import MatchProbability, fit_match_probability
from tijepa.inference.results import Bin, Direction, Match, Retrieval

DOUBTFUL = 500  # images of a test split, below which figures come with their intervals


def retrieval(
    energy: SearchEnergies | Float[Tensor, "i t"], image_of_text: Int[Tensor, " t"]
) -> Retrieval:
    """Retrieval among i images and t texts by energy (low = compatible), one for both or each.

    `image_of_text[k]` is the row of the image that text k describes; an image may have several
    captions, and its rank is that of the best of them. An image without a caption asks nothing, but
    every text still has to tell it apart from its own image. Raises `DataError` where there is
    nothing to retrieve or an index points outside the matrix.
    """
    by = energy if isinstance(energy, SearchEnergies) else SearchEnergies(energy, energy)
    images, texts = by.images.shape
    if images == 0 or texts == 0:
        raise DataError(
            f"retrieval among {images} images and {texts} texts:"
            " give at least one image with a caption"
        )
    lowest, highest = int(image_of_text.min()), int(image_of_text.max())
    if lowest < 0 or highest >= images:
        wrong = lowest if lowest < 0 else highest
        raise DataError(
            f"image_of_text holds {wrong}: give rows of the {images} images, 0 to {images - 1}"
        )
    return Retrieval(
        image_to_text=_direction(image_to_text_ranks(by.texts, image_of_text)),
        text_to_image=_direction(text_to_image_ranks(by.images, image_of_text)),
        num_images=images,
        num_texts=texts,
    )


def text_to_image_ranks(
    energy: Float[Tensor, "i t"], image_of_text: Int[Tensor, " t"]
) -> Int[Tensor, " t"]:
    """Rank of each text's image: 1 + number of other images whose energy is not clearly higher."""
    own = _own_energy(energy, image_of_text)
    ahead = ~(energy > own)  # true for ties and wherever either side is not a number
    return ahead.sum(dim=0)  # the text's own image is never above itself, so it supplies the 1


def image_to_text_ranks(
    energy: Float[Tensor, "i t"], image_of_text: Int[Tensor, " t"]
) -> Int[Tensor, " q"]:
    """Rank of the best own caption of each of the q ≤ i images that have any, in order of rows.

    1 + number of texts of other images whose energy is not clearly higher; an image's own captions
    never count against each other.
    """
    images = energy.shape[0]
    own = _own_energy(energy, image_of_text)
    known = own.masked_fill(own.isnan(), torch.inf)
    best = own.new_full((images,), torch.inf)
    best = best.scatter_reduce(0, image_of_text.long(), known, reduce="amin")
    ahead = (~(energy > best[:, None])).sum(dim=1)
    own_ahead = (~(own > best[image_of_text.long()])).long()
    ahead = ahead - torch.zeros_like(ahead).scatter_add(0, image_of_text.long(), own_ahead)
    return 1 + ahead[_captions_per_image(image_of_text, images) > 0]


def _own_energy(energy: Tensor, image_of_text: Tensor) -> Tensor:
    """Energy of each text with its own image, shape (t,)."""
    return energy.gather(0, image_of_text.long()[None, :])[0]


def _captions_per_image(image_of_text: Tensor, images: int) -> Tensor:
    return torch.bincount(image_of_text.long(), minlength=images)


def _direction(ranks: Tensor) -> Direction:
    values: list[int] = ranks.tolist()

    def recall(k: int) -> float:
        return sum(rank <= k for rank in values) / len(values)

    return Direction(recall(1), recall(5), recall(10), float(statistics.median(values)))


BINS = 10
SHUFFLES = 20  # shuffled pairs of each image


class MatchEnergies(NamedTuple):
    """Energies of n matched pairs and of s shuffled pairs of the same images."""

    matched: Float[Tensor, " n"]
    shuffled: Float[Tensor, "n s"]


def match_energies(energy: Float[Tensor, "n n"]) -> MatchEnergies:
    """Diagonal, and up to 20 shifted diagonals, of the energies of n ≥ 2 aligned pairs."""
    n = len(energy)
    assert n >= 2, n
    shuffles = min(SHUFFLES, n - 1)
    shifts = torch.tensor([1 + k * (n - 1) // shuffles for k in range(shuffles)])
    own = torch.arange(n)
    others = (own[:, None] + shifts) % n
    return MatchEnergies(energy[own, own], energy.gather(1, others))


def match_results(energy: Float[Tensor, "n n"], match: MatchProbability, *, seen: bool) -> Match:
    """Reliability of `match` on aligned pairs.

    Where `match` was fitted on these very pairs (`seen`), it is not judged on them: it is fitted
    anew on one half of the images and judged on the other, both ways.
    """
    e = match_energies(energy)
    p = MatchEnergies(match.probability(e.matched.double()), match.probability(e.shuffled.double()))
    if seen:
        for half in (0, 1):
            other = fit_match_probability(
                e.matched[1 - half :: 2], e.shuffled[1 - half :: 2].flatten()
            )
            p.matched[half::2] = other.probability(e.matched[half::2].double())
            p.shuffled[half::2] = other.probability(e.shuffled[half::2].double())
    matched = torch.arange(e.matched.numel() + e.shuffled.numel()) < e.matched.numel()
    return replace(
        reliability(torch.cat([p.matched, p.shuffled.flatten()]), matched),
        fitted_on="the other half of the split" if seen else "validation",
        roc_auc=roc_auc(e.matched, e.shuffled.flatten()),
    )


def reliability(probability: Float[Tensor, " n"], matched: Bool[Tensor, " n"]) -> Match:
    """Expected calibration error, Brier score, and ten bins of equal width, at a prior of one half.

    Of each bin: the weight of its pairs (`share`), their mean `predicted` probability and the share
    that is `matched`, NaN where the bin is empty. The expected calibration error is the mean of
    |predicted − matched| over pairs. A coin, 0.5 for every pair, has an error of 0 and a Brier
    score of 0.25, so the two belong together. Needs a pair of each kind.
    """
    p, y = probability.double(), matched.double()
    weight = torch.where(matched, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    index = (p * BINS).long().clamp(0, BINS - 1)

    def total(x: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=torch.float64).scatter_add(0, index, weight * x)

    share, predicted, found = total(torch.ones_like(p)), total(p), total(y)
    means = zip(share.tolist(), (predicted / share).tolist(), (found / share).tolist(), strict=True)
    return Match(
        prior=0.5,
        matched_pairs=int(y.sum()),
        shuffled_pairs=int((1 - y).sum()),
        expected_calibration_error=float((predicted - found).abs().sum()),
        brier=float(weight @ (p - y).square()),
        bins=tuple(Bin(k / BINS, (k + 1) / BINS, *one) for k, one in enumerate(means)),
    )


def roc_auc(matched: Float[Tensor, " n"], shuffled: Float[Tensor, " m"]) -> float:
    """Chance that a matched pair has a lower energy than a shuffled one, ties counting half."""
    ordered = shuffled.sort().values
    above = len(ordered) - torch.searchsorted(ordered, matched, right=True)
    not_below = len(ordered) - torch.searchsorted(ordered, matched)
    return float((above + not_below).double().mean()) / (2 * len(ordered))


def intervals_in_words(found: Retrieval) -> str | None:
    """Between which shares recall at 1 lies with 95 %, where so few images leave doubt.

    Wilson's interval (1927) for as many independent queries as there are images, also where an
    image has several captions; None from 500 images on.
    """
    if not 0 < found.num_images < DOUBTFUL:
        return None
    ranges = []
    for one in found.directions.values():
        low, high = wilson(one.recall_at_1, round(found.num_images))
        ranges.append(f"{100 * low:.0f} to {100 * high:.0f} %")
    return (
        f"R@1 of {found.num_images:.0f} images, 95 % intervals: {ranges[0]} image → text,"
        f" {ranges[1]} text → image"
    )


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share of `count` independent trials."""
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    size = 1 + z * z / count
    return max(0.0, (centre - spread) / size), min(1.0, (centre + spread) / size)
