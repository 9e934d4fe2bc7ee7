"""The feature cache: what frozen encoders give for a store's items, made once and read by everyone.

`STORE.features/vVERSION/MODALITY-KEY/SPLIT` holds the features of one modality of one split; for a
store on object storage it lies in the cache folder. `features.json` says what they were made of and
how many there are. Beside it are the columns of a `FeatureTable`: `rows.u32`, `pooled.f32`, and
where tokens are cached `lengths.u32` and `tokens.bf16`. As long as they are made there is a journal
in its place (`io/vectors.py`), so an interrupted process goes on where it stopped.

The key is a hash of the encoder's weights, architecture and precision, of how its inputs are made,
and of whether tokens are cached. So another size of images or another pooling has features of its
own, and whoever comes to the same key may read what lies under it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tijepa.data.features import FeatureTable, Modality, RowFeatures, SplitFeatures, StoreFeatures
from tijepa.data.pairs import PairSource
from tijepa.data.store.prepare import cache_folder
from tijepa.data.store.schema import is_remote
from tijepa.data.store.source import Store, StoreSource, open_store
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.frozen_encoders import FrozenEncoder, Piece
from tijepa.io.files import alone
from tijepa.io.formatting import count
from tijepa.io.progress import SILENT, Reporter
from tijepa.io.vectors import Column, VectorFiles, mapped
from tijepa.model.pretrained.weights import hash_of_weights
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel

COMPLETE = "features.json"
_FORMAT = 2
_UNTRAINED = ("mode", "layers", "rank")  # arguments of a backbone that do not change what it gives
_PRECISIONS = (torch.float32, torch.bfloat16)  # the best first


class FeatureCache:
    """The features of one store at its version, under the `keys` of a model's frozen encoders.

    Each modality is read under the first of its keys that has it. Where `encoders` give the
    encoder of a modality, `split` makes what is missing, under the first key.
    """

    def __init__(
        self,
        store: Store,
        keys: Mapping[Modality, Sequence[str]],
        encoders: Mapping[Modality, FrozenEncoder] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        self._store = store
        self._keys = keys
        self._encoders = encoders or {}
        self._reporter = reporter
        if is_remote(store.uri):
            name = hashlib.blake2b(store.uri.encode(), digest_size=6).hexdigest()
            base = cache_folder().parent / "features" / name
        else:
            base = Path(store.uri.rstrip("/")).with_suffix(".features")
        self.folder = base / f"v{store.version}"

    @classmethod
    def open(
        cls,
        embedder: Embedder,
        store: Store,
        reporter: Reporter = SILENT,
        modalities: Collection[Modality] = ("image", "text"),
    ) -> FeatureCache:
        """What was cached of the pretrained encoders of a model, for reading."""
        if not cls(store, {}).folder.is_dir():
            return cls(store, {})  # without hashing the weights, which takes a second a gigabyte
        keys = keys_of_model(embedder.model, embedder.card, embedder.tokenizer)
        wanted = {modality: own for modality, own in keys.items() if modality in modalities}
        return cls(store, wanted, reporter=reporter)

    def split(self, name: str, source: StoreSource) -> SplitFeatures:
        """The features of a split by item, of every modality that has them, made or found.

        Raises `DataError` where they are stale (made of another store in the same place), damaged
        or cannot be written; `KeyboardInterrupt` after Ctrl-C, and what was made stays.
        """
        tables: dict[str, FeatureTable] = {}
        for modality, keys in self._keys.items():
            encoder = self._encoders.get(modality)
            if encoder is not None:
                self._make(modality, keys[0], name, source, encoder)
            opened = (self._table(modality, key, name, source) for key in keys)
            table = next((table for table in opened if table is not None), None)
            if table is not None:
                tables[modality] = table
                if encoder is None:
                    self._tell(modality, f"the {name} split")
        return SplitFeatures(**tables)

    def rows(self) -> StoreFeatures:
        """The features of all splits by row of the store, of every modality that has some.

        Raises `DataError` where they are stale or damaged.
        """
        found: dict[Modality, RowFeatures] = {}
        splits = open_store(self._store.uri, self._store.version).splits if self._keys else {}
        total = self._store.dataset.count_rows()
        for modality, keys in self._keys.items():
            for key in keys:
                tables = []
                for name, source in splits.items():
                    assert isinstance(source, StoreSource)
                    table = self._table(modality, key, name, source)
                    if table is not None:
                        tables.append((table, source.rows))
                if tables:
                    found[modality] = RowFeatures(tables, total)
                    self._tell(modality, f"{count(len(found[modality]))} of {count(total)} rows")
                    break
        return found

    def _tell(self, modality: Modality, of: str) -> None:
        self._reporter.say(f"features  {modality}: {of} from the cache of an earlier run")

    def _path(self, modality: Modality, key: str, split: str) -> Path:
        return self.folder / f"{modality}-{key}" / split

    def _made_of(self, key: str, source: StoreSource) -> dict[str, Any]:
        return {"key": key, "store": self._store.written(), "items": len(source)}

    def _table(
        self, modality: Modality, key: str, split: str, source: StoreSource
    ) -> FeatureTable | None:
        """The features under one key, None where they are not complete."""
        folder = self._path(modality, key, split)
        return _open(folder, self._made_of(key, source)) if (folder / COMPLETE).exists() else None

    def _make(
        self, modality: Modality, key: str, split: str, source: StoreSource, encoder: FrozenEncoder
    ) -> None:
        folder = self._path(modality, key, split)
        if (folder / COMPLETE).exists():
            return
        with alone(folder, _unwritable, self._reporter):
            if (folder / COMPLETE).exists():  # another process made them meanwhile
                return
            made_of = self._made_of(key, source)
            columns = _columns(encoder.pooled_width, encoder.width)
            files = VectorFiles(folder, columns, unwritable=_unwritable, remedy=_remedy(folder))
            if not files.lines or files.lines[0]["made_of"] != made_of:
                files.clear()
            done = files.lines[-1]["items"] if files.lines else 0
            text = f"features  {modality} encoder over the {split} split, once"
            with self._reporter.bar(text, len(source)) as advance:
                advance(done)
                try:
                    for piece in encoder.pieces(source, done):
                        _append(files, piece, made_of)
                        advance(len(piece.rows))
                except KeyboardInterrupt:
                    done = files.lines[-1]["items"] if files.lines else 0
                    self._reporter.say(
                        f"stopped; {done:,} of {len(source):,} items are cached, and the same goes"
                        " on there"
                    )
                    raise
            shapes = {name: column.shape(files.last) for name, column in columns.items()}
            broken = {item: why for line in files.lines for item, why in line["broken"].items()}
            files.conclude(COMPLETE, {"made_of": made_of, "shapes": shapes, "broken": broken})


def _columns(pooled: int, tokens: int | None) -> dict[str, Column]:
    """The files of one table; `pooled` and `tokens` are the widths of either kind."""
    columns = {
        "rows": Column("rows.u32", "<u4", "items"),
        "pooled": Column("pooled.f32", "<f4", "rows", pooled),
    }
    if tokens is not None:
        columns["lengths"] = Column("lengths.u32", "<u4", "rows")
        columns["tokens"] = Column("tokens.bf16", "<u2", "tokens", tokens)
    return columns


def _append(files: VectorFiles, piece: Piece, made_of: Mapping[str, Any]) -> None:
    """The next items; the journal says of the first ones what all of them are made of."""
    values: dict[str, NDArray[Any]] = {
        "rows": np.asarray(piece.rows),
        "pooled": piece.pooled.float().numpy(),
    }
    tokens = 0
    if piece.tokens is not None:
        assert piece.mask is not None
        values["lengths"] = piece.mask.sum(dim=1).numpy()
        # the bits of bfloat16 values, rounded to nearest even
        values["tokens"] = piece.tokens[piece.mask].to(torch.bfloat16).view(torch.uint16).numpy()
        tokens = len(values["tokens"])
    last = files.last or {"items": 0, "rows": 0, "tokens": 0}
    line = {
        "items": last["items"] + len(piece.rows),
        "rows": last["rows"] + len(piece.pooled),
        "tokens": last["tokens"] + tokens,
        "broken": {str(item): reason for item, reason in piece.broken.items()},
    }
    files.append(line if files.lines else {**line, "made_of": dict(made_of)}, values)


def _open(folder: Path, made_of: Mapping[str, Any]) -> FeatureTable:
    """Open a complete table; `made_of` is what it must have been made of."""
    remedy = _remedy(folder)
    try:
        found = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        for name, value in made_of.items():
            if found["made_of"].get(name) != value:
                raise DataError(
                    f"the features in {folder} are stale: their {name} is"
                    f" {found['made_of'].get(name)}, not {value}; {remedy}"
                )
        columns = _columns(0, 0)
        arrays = {
            name: mapped(
                folder / columns[name].file, columns[name].dtype, tuple(shape), complete=True
            )
            for name, shape in found["shapes"].items()
        }
        return FeatureTable(arrays, {int(item): str(why) for item, why in found["broken"].items()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"the features in {folder} are damaged ({error}); {remedy}") from None


def _remedy(folder: Path) -> str:
    return f"delete {folder} and start again, and they are made anew"


def _unwritable(folder: Path, error: OSError) -> DataError:
    """What a user can do where features cannot be cached."""
    return DataError(
        f"cannot cache features in {folder}: {error.strerror}; mend that, or set "
        "data.cache_features=false and the frozen encoders run at every step"
    )


def cached_split(
    embedder: Embedder, source: PairSource, split: str, reporter: Reporter
) -> SplitFeatures:
    """What was cached of one split for a model; nothing where its pairs lie in no store.

    Raises `DataError` as `FeatureCache.split`.
    """
    if not isinstance(source, StoreSource):
        return SplitFeatures()
    return FeatureCache.open(embedder, source.store, reporter).split(split, source)


# Keys.


def image_inputs(image_size: int, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    """How images become inputs."""
    return [image_size, list(mean), list(std)]


def text_inputs(max_tokens: int, tokenizer: Tokenizer) -> list[Any]:
    """How texts become inputs."""
    return [max_tokens, tokenizer.fingerprint()]


def feature_keys(
    encoder: nn.Module,
    arguments: Mapping[str, Any],
    inputs: Sequence[Any],
    making: Sequence[tuple[torch.dtype, bool]],
) -> list[str]:
    """16 hexadecimal digits for each precision, and whether tokens are cached, of `making`.

    `arguments` are those that the encoder was built from.
    """
    network = {k: v for k, v in arguments.items() if k not in _UNTRAINED}
    weights = hash_of_weights(encoder.state_dict())
    found = []
    for precision, tokens in making:
        made = [_FORMAT, network, inputs, tokens, weights, str(precision)]
        text = json.dumps(made, sort_keys=True)
        found.append(hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
    return found


def keys_of_model(
    model: TextImageModel, card: ModelCard, tokenizer: Tokenizer
) -> dict[Modality, list[str]]:
    """For each pretrained encoder of a model the keys its features can have, the best first."""
    making = [(precision, tokens) for precision in _PRECISIONS for tokens in (False, True)]
    parts: dict[Modality, tuple[nn.Module, list[Any]]] = {
        "image": (model.context.image, image_inputs(card.image_size, card.mean, card.std)),
        "text": (model.context.text, text_inputs(card.max_tokens, tokenizer)),
    }
    arguments = card.arguments["encoders"]
    return {
        modality: feature_keys(part, arguments[modality], inputs, making)
        for modality, (part, inputs) in parts.items()
        if "mode" in arguments[modality]
    }
