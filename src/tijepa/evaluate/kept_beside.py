"""Features that training kept beside a store, found for a model that comes back to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rich.console import Console

from tijepa.data.kept_features import KeptFeatures, Modality, features_folder
from tijepa.data.store.source import Store
from tijepa.embedder import Embedder
from tijepa.encoding.feature_keys import keys_of_model
from tijepa.evaluate.formatting import count
from tijepa.evaluate.terminal import say

__all__ = ["Kept", "kept_beside"]

Kept = Mapping[Modality, KeptFeatures]


def kept_beside(
    embedder: Embedder,
    store: Store,
    console: Console,
    modalities: Collection[Modality] = ("image", "text"),
) -> Kept:
    """The features that lie beside the store and are those of this model's encoders; says so.

    Raises `DataError` where they are damaged, or made of another store in the same place.
    """
    if not features_folder(store).is_dir():
        return {}  # without hashing the weights, which takes a second a gigabyte
    keys = keys_of_model(embedder.model, embedder.card, embedder.tokenizer)
    found = KeptFeatures.find(store, {m: own for m, own in keys.items() if m in modalities})
    rows = store.dataset.count_rows()
    for modality, features in found.items():
        whose = f"{modality} features of {count(len(features))} of {count(rows)} rows"
        say(console, f"features  {whose}, kept by training, are read instead of encoded")
    return found
