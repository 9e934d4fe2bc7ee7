"""Where the index of a model on a store lies, and what it says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tijepa.data.store.location import is_remote, is_store, local_path
from tijepa.embedder import Form
from tijepa.errors import ConfigError, DataError
from tijepa.model.saving import write_json
from tijepa.search.lists import ListsCard
from tijepa.search.shelf import Side

__all__ = ["IndexCard", "check_store", "index_folder", "read_card", "write_card"]

FORMAT = 1
_CARD = "index.json"


@dataclass(frozen=True)
class IndexCard:
    """What an index covers: the first `rows` rows of `version` of the store.

    A side of more than `exact_up_to` vectors has inverted lists, unless that is None.
    """

    model: str
    form: Form
    length: int
    store: str
    version: int
    rows: int
    images: int
    texts: int
    unreadable: int
    exact_up_to: int | None
    lists: Mapping[Side, ListsCard]


def check_store(store: str) -> str:
    """`store`, which names one; `ConfigError` where it does not."""
    if not is_store(store):
        raise ConfigError(
            f"{store} is no store: make one with: tijepa prepare {store} --out"
            f" {Path(store).name or 'pairs'}.lance"
        )
    return store


def index_folder(store: str, model: str) -> Path:
    """Beside the store: `pairs.index/MODEL`; for object storage in the working folder."""
    uri = store.rstrip("/")
    place = Path(uri.rsplit("/", 1)[1]) if is_remote(uri) else local_path(uri)
    return place.with_suffix(".index") / model


def write_card(card: IndexCard, folder: Path) -> None:
    """Publish it: whoever opens the index from now on sees this state."""
    write_json({"format": FORMAT, **asdict(card)}, folder / _CARD)


def read_card(folder: Path) -> IndexCard | None:
    """The card of a finished index, None where there is none; `DataError` where it is damaged."""
    path = folder / _CARD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise DataError(f"{path} is of another format: delete {folder} and index anew")
        lists = {side: ListsCard(**card) for side, card in found.pop("lists").items()}
        return IndexCard(**found, lists=lists)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged: delete {folder} and index anew") from None
