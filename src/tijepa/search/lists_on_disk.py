"""The inverted lists of an index: made where a side is large, kept beside the embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console

from tijepa.data.store.progress import watched
from tijepa.embedder import Form
from tijepa.search.lists import Lists
from tijepa.search.place import IndexCard, read_card
from tijepa.search.points import searched
from tijepa.search.shelf import SIDES, Shelf, Side

__all__ = ["make_lists", "open_lists", "remove_others"]

_OTHER: Mapping[Side, Side] = {"images": "texts", "texts": "images"}


def make_lists(
    shelf: Shelf, form: Form, exact_up_to: int | None, console: Console
) -> dict[Side, Lists]:
    """Lists of each side with more than `exact_up_to` vectors; those that stand are taken."""
    made: dict[Side, Lists] = {}
    card = read_card(shelf.folder)
    for side in SIDES:
        values = searched(shelf.vectors(side).values, form, side)
        if exact_up_to is None or len(values) <= exact_up_to:
            continue
        path = _file(shelf, side, len(values))
        if card is not None and side in card.lists and path.exists():
            made[side] = Lists.open(path, card.lists[side], form, len(values))
            continue
        with watched(console, f"making the lists of {len(values):,} {side}", None):
            queries = searched(shelf.vectors(_OTHER[side]).values, form, side)
            made[side] = Lists.build(values, queries, form, side)
        made[side].save(path)
    return made


def open_lists(shelf: Shelf, card: IndexCard) -> dict[Side, Lists]:
    """The lists that the card names."""
    counts: Mapping[Side, int] = {"images": card.images, "texts": card.texts}
    return {
        side: Lists.open(_file(shelf, side, counts[side]), one, card.form, counts[side])
        for side, one in card.lists.items()
    }


def remove_others(shelf: Shelf, kept: Iterable[Side]) -> None:
    """Remove lists of earlier states, once the card names those that are kept."""
    names = {_file(shelf, side, len(shelf.vectors(side).values)).name for side in kept}
    for path in shelf.folder.glob("*.lists"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _file(shelf: Shelf, side: Side, count: int) -> Path:
    return shelf.folder / f"{side}-{count}.lists"
