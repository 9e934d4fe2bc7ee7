"""What the pages of this room share: one file, no network, no script, the doctor's look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tijepa.data.doctor.pieces import escape
from tijepa.data.doctor.style import STYLE
from tijepa.data.doctor.thumbnails import thumbnail

__all__ = ["Card", "cards", "document"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


@dataclass(frozen=True)
class Card:
    """One item of the store: the bytes of its picture, its id, a line about it, its caption."""

    picture: bytes | None
    id: str
    note: str
    caption: str | None


def cards(items: Iterable[Card]) -> str:
    """A grid of items; what is no picture is left out."""
    return f'<ul class="examples">{"".join(map(_card, items))}</ul>'


def document(title: str, header: str, body: str) -> str:
    """A whole page; `header` and `body` are HTML, `title` is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>{header}</header><main>{body}</main></body></html>\n"
    )


def _card(item: Card) -> str:
    uri = thumbnail(item.picture)
    alt = escape(item.caption or item.id)
    picture = f'<img src="{uri}" alt="{alt}" loading="lazy">' if uri else ""
    caption = f'<q dir="auto">{escape(item.caption)}</q>' if item.caption else ""
    return f"<li>{picture}<b>{escape(item.id)}</b><div>{escape(item.note)}</div>{caption}</li>"
