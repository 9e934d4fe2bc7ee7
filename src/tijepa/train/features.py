"""Features of frozen encoders: made once for all items of a split, kept beside its store.

`data/kept_features.py` says where they lie, `encoding/feature_keys.py` under which key: pictures of
another size, another pooling or a store that has grown have features of their own, and features
under their key are right unless the store itself was made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tijepa.config import RunConfig
from tijepa.config.weights import token_weights
from tijepa.data.feature_table import COMPLETE, FeatureTable, SplitFeatures, open_table
from tijepa.data.feature_writer import FeatureWriter, unwritable
from tijepa.data.kept_features import made_of, split_folder
from tijepa.data.pairs import PairSource
from tijepa.data.store.lock import alone
from tijepa.data.store.progress import watched
from tijepa.data.store.source import StoreSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.encoding.feature_keys import feature_key, picture_inputs, text_inputs
from tijepa.evaluate.terminal import say
from tijepa.model.encoders import Encoders
from tijepa.objectives.tasks import TASKS
from tijepa.train.build import Compute
from tijepa.train.encoding import Encoding, ImageEncoding, TextEncoding

__all__ = ["FeatureMaker", "kept_modalities"]


def kept_modalities(config: RunConfig, source: PairSource) -> dict[str, str | None]:
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
            reason = "data.crop_scale or data.flip makes every picture a new one"
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
    console: Console

    @classmethod
    def of(
        cls,
        config: RunConfig,
        source: PairSource,
        encoders: Encoders,
        arguments: Mapping[str, Any],
        tokenizer: Tokenizer,
        compute: Compute,
        console: Console,
    ) -> FeatureMaker:
        """For the encoders of a run, built from `arguments`; says what is not kept, and why."""
        modalities = kept_modalities(config, source)
        for modality, reason in modalities.items():
            if reason is not None:
                say(
                    console, f"features  the frozen {modality} encoder runs at every step: {reason}"
                )
        data = config.data
        tokens = bool(token_weights(config.objective))
        encodings: dict[str, Encoding] = {}
        inputs: dict[str, list[Any]] = {}
        if modalities.get("image", "") is None:
            encodings["image"] = ImageEncoding(
                encoders.image, compute, data.image_size, data.mean, data.std, max(1, data.threads)
            )
            inputs["image"] = picture_inputs(data.image_size, data.mean, data.std)
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
        return cls(encodings, tokens, keys, console)

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
        with alone(folder, unwritable, self.console):
            if (folder / COMPLETE).exists():  # another process made them meanwhile
                return
            writer = FeatureWriter(folder, making, tokens=self.tokens)
            text = f"features  {modality} encoder over the {split} split, once"
            with watched(self.console, text, len(source)) as advance:
                advance(writer.items)
                try:
                    for piece in encoding.pieces(source, writer.items, tokens=self.tokens):
                        writer.add(piece.rows, piece.pooled, piece.tokens, piece.mask, piece.broken)
                        advance(len(piece.rows))
                except KeyboardInterrupt:
                    done = f"{writer.items:,} of {len(source):,}"
                    say(self.console, f"stopped; {done} items are kept, and the same goes on there")
                    raise
            writer.finish()
