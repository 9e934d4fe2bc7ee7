"""Where the index of a model on a store lies, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tijepa.data.store.schema import is_remote, is_store, local_path
from tijepa.errors import ConfigError, DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form
from tijepa.io.progress import Reporter
from tijepa.model.pretrained.weights import hash_of_weights
from tijepa.model.saving import write_json
from tijepa.search.ivf import Lists, ListsCard, searched
from tijepa.search.vector_store import SIDES, Side, VectorStore

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


# Which model made some embeddings: a hash of all that they depend on.


_LAYOUT = 2  # of a calibrated row: a half for each search


def fingerprint(embedder: Embedder) -> str:
    """24 hexadecimal digits that card, tokenizer, weights, calibration and layout decide.

    Equal for a run folder and a copy of its model elsewhere; a gigabyte of weights takes a second.
    """
    calibration = {} if embedder.calibration is None else embedder.calibration.state()
    made = [
        _LAYOUT,
        embedder.card.__dict__,
        embedder.tokenizer.fingerprint(),
        hash_of_weights(embedder.model.state_dict()),
        hash_of_weights(calibration),
    ]
    text = json.dumps(made, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


# The inverted lists of an index: made where a side is large, kept beside the embeddings.


_OTHER: Mapping[Side, Side] = {"images": "texts", "texts": "images"}


def make_lists(
    vector_store: VectorStore, form: Form, exact_up_to: int | None, reporter: Reporter
) -> dict[Side, Lists]:
    """Lists of each side with more than `exact_up_to` vectors; those that stand are taken."""
    made: dict[Side, Lists] = {}
    card = read_card(vector_store.folder)
    for side in SIDES:
        values = searched(vector_store.vectors(side).values, form, side)
        if exact_up_to is None or len(values) <= exact_up_to:
            continue
        path = _file(vector_store, side, len(values))
        if card is not None and side in card.lists and path.exists():
            made[side] = Lists.open(path, card.lists[side], form, len(values))
            continue
        with reporter.bar(f"making the lists of {len(values):,} {side}", None):
            queries = searched(vector_store.vectors(_OTHER[side]).values, form, side)
            made[side] = Lists.build(values, queries, form, side)
        made[side].save(path)
    return made


def open_lists(vector_store: VectorStore, card: IndexCard) -> dict[Side, Lists]:
    """The lists that the card names."""
    counts: Mapping[Side, int] = {"images": card.images, "texts": card.texts}
    return {
        side: Lists.open(_file(vector_store, side, counts[side]), one, card.form, counts[side])
        for side, one in card.lists.items()
    }


def remove_others(vector_store: VectorStore, kept: Iterable[Side]) -> None:
    """Remove lists of earlier states, once the card names those that are kept."""
    names = {
        _file(vector_store, side, len(vector_store.vectors(side).values)).name for side in kept
    }
    for path in vector_store.folder.glob("*.lists"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _file(vector_store: VectorStore, side: Side, count: int) -> Path:
    return vector_store.folder / f"{side}-{count}.lists"
