"""Features that training kept beside a store, found for a model that comes back to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tijepa.data.features.cached_features import (
    CachedRows,
    Modality,
    cached_split_features,
    features_folder,
)
from tijepa.data.features.table import SplitFeatures
from tijepa.data.pairs import PairSource
from tijepa.data.store.source import Store, StoreSource
from tijepa.inference.embedder import Embedder
from tijepa.inference.feature_keys import keys_of_model
from tijepa.io.formatting import count
from tijepa.io.progress import Reporter

__all__ = ["CachedFeatures", "cached_features", "cached_split"]

CachedFeatures = Mapping[Modality, CachedRows]


def cached_features(
    embedder: Embedder,
    store: Store,
    reporter: Reporter,
    modalities: Collection[Modality] = ("image", "text"),
) -> CachedFeatures:
    """The features that lie beside the store and are those of this model's encoders; says so.

    Raises `DataError` where they are damaged, or made of another store in the same place.
    """
    if not features_folder(store).is_dir():
        return {}  # without hashing the weights, which takes a second a gigabyte
    keys = keys_of_model(embedder.model, embedder.card, embedder.tokenizer)
    found = CachedRows.find(store, {m: own for m, own in keys.items() if m in modalities})
    rows = store.dataset.count_rows()
    for modality, features in found.items():
        _told(reporter, modality, f"{count(len(features))} of {count(rows)} rows")
    return found


def cached_split(
    embedder: Embedder, source: PairSource, split: str, reporter: Reporter
) -> SplitFeatures:
    """The same of one split, by item; none where its pairs lie in no store. Raises as above."""
    if not isinstance(source, StoreSource) or not features_folder(source.store).is_dir():
        return SplitFeatures()
    keys = keys_of_model(embedder.model, embedder.card, embedder.tokenizer)
    found = cached_split_features(source, split, keys)
    for modality, table in (("image", found.image), ("text", found.text)):
        if table is not None:
            _told(reporter, modality, f"the {split} split")
    return found


def _told(reporter: Reporter, modality: str, of: str) -> None:
    whose = f"{modality} features of {of}"
    reporter.say(f"features  {whose}, kept by training, are read instead of encoded")
