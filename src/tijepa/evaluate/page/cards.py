"""The gallery as HTML: what was asked, and the five answers of lowest energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tijepa.evaluate.formatting import escape, number
from tijepa.evaluate.page.pictures import thumbnail
from tijepa.evaluate.page.pieces import paragraph, unknown
from tijepa.evaluate.queries import Query, Result

__all__ = ["gallery_html"]

SHOWN = 5


def gallery_html(queries: Sequence[Query]) -> str:
    """Both kinds under their own heading, in the order given. `DataError` for bad pictures."""
    parts = []
    for kind, heading in (
        ("text_to_image", "A caption asks for its image"),
        ("image_to_text", "An image asks for its caption"),
    ):
        chosen = [query for query in queries if query.kind == kind]
        if chosen:
            cards = "".join(
                _by_text(q) if kind == "text_to_image" else _by_image(q) for q in chosen
            )
            parts.append(f'<h3>{heading}</h3><div class="cards {kind}">{cards}</div>')
    if not parts:
        return unknown("No retrievals were recorded for this run.")
    about = (
        "The five answers of lowest energy, best first. The number is the energy; green and ✓ mark"
        " the true partner."
    )
    return paragraph(about) + "".join(parts)


def _by_text(query: Query) -> str:
    answers = "".join(
        f'<li class="{_state(one)}">{_image(one.picture, one.caption or f"Result {rank}")}'
        f'<span class="energy">{_mark(one)}{number(one.energy)}</span></li>'
        for rank, one in enumerate(query.results[:SHOWN], start=1)
    )
    return (
        f'<article class="card"><blockquote dir="auto">{escape(query.text or "")}</blockquote>'
        f'<ol class="pictures">{answers}</ol></article>'
    )


def _by_image(query: Query) -> str:
    answers = "".join(
        f'<li class="{_state(one)}">'
        f'<span class="caption" dir="auto">{escape(one.caption or "")}</span>'
        f'<span class="energy">{_mark(one)}{number(one.energy)}</span></li>'
        for one in query.results[:SHOWN]
    )
    return (
        f'<article class="card">{_image(query.picture, query.text or "Query image")}'
        f'<ol class="captions">{answers}</ol></article>'
    )


def _state(one: Result) -> str:
    return "match" if one.is_match else "other"


def _mark(one: Result) -> str:
    return '<span class="tick-mark" role="img" aria-label="match">✓</span> ' if one.is_match else ""


def _image(picture: np.ndarray | None, alt: str) -> str:
    if picture is None:
        return '<span class="absent">no image</span>'
    return f'<img src="{thumbnail(picture)}" alt="{escape(alt)}">'
