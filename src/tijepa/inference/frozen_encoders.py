"""Run a frozen encoder over the items of a source, in order, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.data.images import prepare
from tijepa.data.pairs import Item, PairSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError
from tijepa.inference.parallel import read_ahead
from tijepa.model.encoded import Encoded

_IMAGES = 64  # at once
_ITEMS = 256  # whose captions make a piece
_CAPTIONS = 64  # at once

Encode = Callable[..., Encoded]  # inputs of an encoder, on the CPU, to what it gives on its device


@dataclass(frozen=True)
class Piece:
    """Consecutive items: rows of each, the features of all rows, and what could not be read."""

    rows: list[int]
    pooled: Float[Tensor, "r p"]
    tokens: Float[Tensor, "r n d"] | None
    mask: Bool[Tensor, "r n"] | None
    broken: Mapping[int, str]


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder that need not run twice: the widths of what it gives, and a way to run it.

    `width` is that of tokens, None where pooled tokens alone are wanted. `pieces` gives the
    features of the items of a source from a number on.
    """

    pooled_width: int
    width: int | None
    pieces: Callable[[PairSource, int], Iterator[Piece]]


def image_pieces(
    encode: Encode,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threads: int,
    tokens: bool,
    source: PairSource,
    start: int,
) -> Iterator[Piece]:
    """The largest centred square of each image, as the loader gives it without augmentation.

    The next images are decoded by `threads` threads while these are encoded.
    """

    def pixels_of(item: Item) -> tuple[Tensor, str | None]:
        """Inputs (3, size, size), or an empty tensor; with the reason where the image is broken."""
        none = torch.empty(0)
        if item.image is None:
            return none, None
        try:
            pixels = item.image.pixels(size)
        except DataError as error:
            return none, str(error)
        return prepare(pixels, size, mean, std), None

    with ThreadPoolExecutor(threads, "tijepa-features") as decoders:

        def decoded(part: range) -> list[tuple[Tensor, str | None]]:
            return list(decoders.map(pixels_of, source.read(part)))

        parts = _parts(start, len(source), _IMAGES)
        for part, made in zip(parts, read_ahead(decoded, parts), strict=True):
            broken = {k: reason for k, (_, reason) in zip(part, made, strict=True) if reason}
            rows = [int(len(pixels) > 0) for pixels, _ in made]
            inputs = [pixels for pixels, _ in made if len(pixels)]
            # an encoder needs an image: one that no row keeps
            encoded = encode(torch.stack(inputs or [torch.zeros(3, size, size)]))
            count = len(inputs)
            yield Piece(
                rows,
                encoded.pooled[:count].cpu(),
                encoded.tokens[:count].cpu() if tokens else None,
                encoded.mask[:count].cpu() if tokens else None,
                broken,
            )


def text_pieces(
    encode: Encode,
    tokenizer: Tokenizer,
    max_tokens: int,
    tokens: bool,
    source: PairSource,
    start: int,
) -> Iterator[Piece]:
    """All captions of each item."""
    for part in _parts(start, len(source), _ITEMS):
        captions = source.texts(part)
        texts = [text for own in captions for text in own]
        yield _of_texts(
            encode, tokenizer, max_tokens, tokens, [len(own) for own in captions], texts
        )


def _of_texts(
    encode: Encode,
    tokenizer: Tokenizer,
    max_tokens: int,
    tokens: bool,
    rows: list[int],
    texts: list[str],
) -> Piece:
    """Texts of similar length go through the encoder together: little is spent on padding."""
    count = len(texts)
    ids = tokenizer.encode(texts or [""], max_tokens)
    lengths = ids.mask.sum(dim=1)
    order = lengths.argsort(stable=True)
    pooled: Tensor | None = None
    kept: Tensor | None = None
    for some in torch.split(order, _CAPTIONS):
        longest = int(lengths[some].max())
        encoded = encode(ids.ids[some, :longest], ids.mask[some, :longest])
        if pooled is None:
            pooled = torch.empty(len(order), encoded.pooled.shape[1])
            kept = torch.zeros(*ids.ids.shape, encoded.tokens.shape[2]) if tokens else None
        pooled[some] = encoded.pooled.cpu()
        if kept is not None:
            kept[some, :longest] = encoded.tokens.cpu()
    assert pooled is not None
    return Piece(
        rows,
        pooled[:count],
        None if kept is None else kept[:count],
        ids.mask[:count] if tokens else None,
        {},
    )


def _parts(start: int, stop: int, size: int) -> list[range]:
    return [range(first, min(first + size, stop)) for first in range(start, stop, size)]
