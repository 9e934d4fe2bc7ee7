"""Retrieval in both directions from energies: recall at 1, 5, 10 and median rank.

Pure functions of energies. Whatever the model leaves undecided counts against it: ties and energies
that are not numbers push the rank down, so a model that gives every pair the same energy (collapse)
is ranked last everywhere and not, by luck of a sort, first.
"""

from __future__ import annotations

import statistics

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.errors import DataError
from tijepa.inference.embeddings import SearchEnergies
from tijepa.inference.results import Direction, Retrieval


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
