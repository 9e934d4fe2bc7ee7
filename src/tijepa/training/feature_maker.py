"""Features of frozen encoders: made once for all items of a split, kept beside its store.

`data/kept_features.py` says where they lie, `encoding/feature_keys.py` under which key: images of
another size, another pooling or a store that has grown have features of their own, and features
under their key are right unless the store itself was made anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.config import RunConfig
from tijepa.config.task_weights import token_weights
from tijepa.data.features.cached_features import made_of, split_folder
from tijepa.data.features.table import COMPLETE, FeatureTable, SplitFeatures, open_table
from tijepa.data.features.writer import FeatureWriter, unwritable
from tijepa.data.images import centre_square, normalise_into
from tijepa.data.pairs import Item, PairSource
from tijepa.data.store.source import StoreSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError
from tijepa.inference.feature_keys import feature_key, image_inputs, text_inputs
from tijepa.io.locks import alone
from tijepa.io.progress import Reporter
from tijepa.model.encoded import Encoded
from tijepa.model.encoders import Encoders
from tijepa.objectives.tasks import TASKS
from tijepa.training.build import Compute

__all__ = [
    "Encoding",
    "FeatureMaker",
    "ImageEncoding",
    "Piece",
    "TextEncoding",
    "cached_modalities",
]


def cached_modalities(config: RunConfig, source: PairSource) -> dict[str, str | None]:
    """The modalities with a frozen backbone, each with the reason why it runs at every step.

    None where there is no such reason, and its features are made once.
    """
    data, model = config.data, config.model
    frozen = {
        name: tower.backbone is not None and tower.train == "frozen"
        for name, tower in (("image", model.image), ("text", model.text))
    }
    hidden = {
        TASKS[name].predicts: name for name in token_weights(config.objective) if TASKS[name].hides
    }
    found: dict[str, str | None] = {}
    for modality in (name for name, is_frozen in frozen.items() if is_frozen):
        reason = None
        if not data.cache_features:
            reason = "data.cache_features is false"
        elif modality == "image" and (tuple(data.crop_scale) != (1.0, 1.0) or data.flip):
            reason = "data.crop_scale or data.flip makes every image a new one"
        elif modality in hidden:
            reason = f"objective.tasks.{hidden[modality]} hides another part of it each time"
        elif not isinstance(source, StoreSource):
            reason = "the data lie in no store"
        found[modality] = reason
    return found


@dataclass(frozen=True)
class FeatureMaker:
    """Makes and opens the features of one run's splits.

    `encodings` are those of the modalities whose features are kept; `tokens` whether tokens are
    kept beside the pooled ones.
    """

    encodings: Mapping[str, Encoding]
    tokens: bool
    keys: Mapping[str, str]
    reporter: Reporter

    @classmethod
    def of(
        cls,
        config: RunConfig,
        source: PairSource,
        encoders: Encoders,
        arguments: Mapping[str, Any],
        tokenizer: Tokenizer,
        compute: Compute,
        reporter: Reporter,
    ) -> FeatureMaker:
        """For the encoders of a run, built from `arguments`; says what is not kept, and why."""
        modalities = cached_modalities(config, source)
        for modality, reason in modalities.items():
            if reason is not None:
                reporter.say(
                    f"features  the frozen {modality} encoder runs at every step: {reason}"
                )
        data = config.data
        tokens = bool(token_weights(config.objective))
        encodings: dict[str, Encoding] = {}
        inputs: dict[str, list[Any]] = {}
        if modalities.get("image", "") is None:
            encodings["image"] = ImageEncoding(
                encoders.image, compute, data.image_size, data.mean, data.std, max(1, data.threads)
            )
            inputs["image"] = image_inputs(data.image_size, data.mean, data.std)
        if modalities.get("text", "") is None:
            encodings["text"] = TextEncoding(encoders.text, compute, tokenizer, data.max_tokens)
            inputs["text"] = text_inputs(data.max_tokens, tokenizer)
        keys = {
            modality: feature_key(
                encoders.image if modality == "image" else encoders.text,
                arguments[modality],
                inputs[modality],
                tokens=tokens,
                precision=compute.precision,
            )
            for modality in encodings
        }
        return cls(encodings, tokens, keys, reporter)

    def split(self, name: str, source: PairSource) -> SplitFeatures:
        """The features of a split, made first where they are not there.

        Raises `DataError` where those that are there are stale or damaged, or cannot be written;
        `KeyboardInterrupt` after Ctrl-C, with what was made kept for the next time.
        """
        tables: dict[str, FeatureTable] = {}
        for modality, encoding in self.encodings.items():
            assert isinstance(source, StoreSource)
            key = self.keys[modality]
            folder = split_folder(source.store, modality, key, name)
            making = made_of(key, source)
            if not (folder / COMPLETE).exists():
                self._make(modality, encoding, source, name, folder, making)
            tables[modality] = open_table(folder, making)
        return SplitFeatures(**tables)

    def _make(
        self,
        modality: str,
        encoding: Encoding,
        source: StoreSource,
        split: str,
        folder: Path,
        making: Mapping[str, Any],
    ) -> None:
        with alone(folder, unwritable, self.reporter):
            if (folder / COMPLETE).exists():  # another process made them meanwhile
                return
            writer = FeatureWriter(folder, making, tokens=self.tokens)
            text = f"features  {modality} encoder over the {split} split, once"
            with self.reporter.bar(text, len(source)) as advance:
                advance(writer.items)
                try:
                    for piece in encoding.pieces(source, writer.items, tokens=self.tokens):
                        writer.add(piece.rows, piece.pooled, piece.tokens, piece.mask, piece.broken)
                        advance(len(piece.rows))
                except KeyboardInterrupt:
                    done = f"{writer.items:,} of {len(source):,}"
                    self.reporter.say(f"stopped; {done} items are kept, and the same goes on there")
                    raise
            writer.finish()


# Run a frozen encoder over the items of a source, in order, a piece at a time.


_IMAGES = 64  # at once
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
    """The largest centred square of each image, as the loader gives it without augmentation."""

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
        """See `Encoding.pieces`; the next images are decoded while these are encoded."""
        bounds = [(s, min(s + _IMAGES, len(source))) for s in range(start, len(source), _IMAGES)]
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
        return [decoders.submit(self._image, item) for item in source.read(range(first, last))]

    def _image(self, item: Item) -> tuple[Tensor, str | None]:
        """Pixels, or none: with the reason where the image is broken."""
        none = torch.empty(0)
        if item.image is None:
            return none, None
        try:
            pixels = item.image.pixels(self._size)
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
        if not inputs:  # an encoder needs an image: one that no row keeps
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
