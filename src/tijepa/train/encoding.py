"""Run a frozen encoder over the items of a source, in order, a piece at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.data.images import centre_square, normalise_into
from tijepa.data.pairs import Item, PairSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError
from tijepa.model.encoded import Encoded
from tijepa.train.build import Compute

__all__ = ["Encoding", "ImageEncoding", "Piece", "TextEncoding"]

_PICTURES = 64  # at once
_ITEMS = 256  # whose captions make a piece
_CAPTIONS = 64  # at once


@dataclass(frozen=True)
class Piece:
    """Consecutive items: rows of each, the features of all rows, and what could not be read."""

    rows: list[int]
    pooled: Float[Tensor, "r p"]
    tokens: Float[Tensor, "r n d"] | None
    mask: Bool[Tensor, "r n"] | None
    broken: Mapping[int, str]


class Encoding(ABC):
    """A frozen encoder and how its inputs are made. It runs in the precision of training."""

    @abstractmethod
    def pieces(self, source: PairSource, start: int, *, tokens: bool) -> Iterator[Piece]:
        """Features of the items of `source` from number `start` on."""


class ImageEncoding(Encoding):
    """The largest centred square of each picture, as the loader gives it without augmentation."""

    def __init__(
        self,
        encoder: nn.Module,
        compute: Compute,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        threads: int,
    ) -> None:
        self._encoder = encoder
        self._compute = compute
        self._size = image_size
        self._mean, self._std = mean, std
        self._threads = threads

    def pieces(self, source: PairSource, start: int, *, tokens: bool) -> Iterator[Piece]:
        """See `Encoding.pieces`; the next pictures are decoded while these are encoded."""
        bounds = [
            (s, min(s + _PICTURES, len(source))) for s in range(start, len(source), _PICTURES)
        ]
        with ThreadPoolExecutor(self._threads, "tijepa-features") as decoders:
            waiting: list[Future[tuple[Tensor, str | None]]] = []
            try:
                for number, (first, last) in enumerate(bounds):
                    ready = waiting or self._begin(source, decoders, first, last)
                    following = bounds[number + 1 : number + 2]
                    waiting = []
                    for bound in following:
                        waiting = self._begin(source, decoders, *bound)
                    yield self._encode([future.result() for future in ready], first, tokens)
            finally:
                decoders.shutdown(cancel_futures=True)

    def _begin(
        self, source: PairSource, decoders: ThreadPoolExecutor, first: int, last: int
    ) -> list[Future[tuple[Tensor, str | None]]]:
        return [decoders.submit(self._picture, item) for item in source.read(range(first, last))]

    def _picture(self, item: Item) -> tuple[Tensor, str | None]:
        """Pixels, or none: with the reason where the picture is broken."""
        none = torch.empty(0)
        if item.picture is None:
            return none, None
        try:
            pixels = item.picture.pixels(self._size)
        except DataError as error:
            return none, str(error)
        square = centre_square(pixels, self._size)
        row = np.empty((3, self._size, self._size), dtype=np.float32)
        normalise_into(row, square, self._mean, self._std)
        return torch.from_numpy(row), None

    @torch.no_grad()
    def _encode(self, made: list[tuple[Tensor, str | None]], first: int, tokens: bool) -> Piece:
        broken = {first + k: reason for k, (_, reason) in enumerate(made) if reason is not None}
        rows = [int(len(pixels) > 0) for pixels, _ in made]
        inputs = [pixels for pixels, _ in made if len(pixels)]
        if not inputs:  # an encoder needs a picture: one that no row keeps
            inputs = [torch.zeros(3, self._size, self._size)]
        with self._compute.autocast():
            encoded: Encoded = self._encoder(torch.stack(inputs).to(self._compute.device))
        count = sum(rows)
        return Piece(
            rows,
            encoded.pooled[:count].cpu(),
            encoded.tokens[:count].cpu() if tokens else None,
            encoded.mask[:count].cpu() if tokens else None,
            broken,
        )


class TextEncoding(Encoding):
    """All captions of each item."""

    def __init__(
        self, encoder: nn.Module, compute: Compute, tokenizer: Tokenizer, max_tokens: int
    ) -> None:
        self._encoder = encoder
        self._compute = compute
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def pieces(self, source: PairSource, start: int, *, tokens: bool) -> Iterator[Piece]:
        """See `Encoding.pieces`."""
        for first in range(start, len(source), _ITEMS):
            captions = source.texts(range(first, min(first + _ITEMS, len(source))))
            texts = [text for own in captions for text in own]
            yield self._encode([len(own) for own in captions], texts, tokens)

    @torch.no_grad()
    def _encode(self, rows: list[int], texts: list[str], tokens: bool) -> Piece:
        """Texts of similar length go through the encoder together: little is spent on padding."""
        count = len(texts)
        ids = self._tokenizer.encode(texts or [""], self._max_tokens)
        lengths = ids.mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        pooled: Tensor | None = None
        kept: Tensor | None = None
        for start in range(0, len(order), _CAPTIONS):
            some = order[start : start + _CAPTIONS]
            longest = int(lengths[some].max())
            device = self._compute.device
            inputs = (ids.ids[some, :longest].to(device), ids.mask[some, :longest].to(device))
            with self._compute.autocast():
                encoded: Encoded = self._encoder(*inputs)
            if pooled is None:
                pooled = torch.empty(len(order), encoded.pooled.shape[1])
            pooled[some] = encoded.pooled.cpu()
            if tokens:
                if kept is None:
                    kept = torch.zeros(*ids.ids.shape, encoded.tokens.shape[2])
                kept[some, :longest] = encoded.tokens.cpu()
        assert pooled is not None
        return Piece(
            rows,
            pooled[:count],
            None if kept is None else kept[:count],
            ids.mask[:count] if tokens else None,
            {},
        )
