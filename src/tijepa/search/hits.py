"""What a search answers with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Hit"]


@dataclass(frozen=True)
class Hit:
    """One item of the store; hits of a query come lowest energy first.

    `row` is the item's row in the store, by which `Index.pictures` gives its bytes. `energy` is in
    the index's form, in nats where that is calibrated. `probability` is that of a match at equal
    odds, None where the model has none. `caption` is the caption found, where texts are searched;
    else the item's first, None where it has none.
    """

    id: str
    row: int
    energy: float
    probability: float | None
    caption: str | None
    split: str
