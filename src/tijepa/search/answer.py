"""One question to an index and its answer: as JSON, as a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tijepa.data.validation.page import escape
from tijepa.data.validation.style import STYLE
from tijepa.data.validation.thumbnails import thumbnail
from tijepa.errors import ConfigError
from tijepa.inference.embedder import Embedder
from tijepa.inference.inputs import check_text
from tijepa.io.formatting import number, percent, plural
from tijepa.search.exact import Hit
from tijepa.search.index import Index, opened_model
from tijepa.search.vector_store import Side

__all__ = [
    "Answer",
    "Card",
    "answer_facts",
    "answer_page",
    "ask",
    "cards",
    "document",
    "search",
]


@dataclass(frozen=True)
class Answer:
    """The hits for `text`, which asks for images, or for `image`, which asks for captions."""

    text: str | None
    image: Path | None
    where: str | None
    hits: list[Hit]

    @property
    def among(self) -> Side:
        """What was searched."""
        return "images" if self.image is None else "texts"

    @property
    def nothing(self) -> str:
        """What is said where there is no hit."""
        what = "images" if self.among == "images" else "captions"
        return f"no {what} meet the condition" if self.where else f"the store holds no {what}"


def search(
    model: Embedder | str | Path,
    store: str,
    text: str | None = None,
    *,
    image: str | Path | None = None,
    k: int = 10,
    where: str | None = None,
    exact: bool = False,
    checkpoint: str | None = None,
) -> Answer:
    """The k images of `store` of lowest energy for `text`, or the captions for the file `image`.

    `tijepa.index` has to be called before. `where` is a condition on the store's columns;
    `model`, `checkpoint` and `exact` are as there. For many questions keep the `Index`.

        answer = tijepa.search("runs/photos", "photos.lance", "two dogs", where="split = 'test'")
        [(hit.id, hit.energy, hit.caption) for hit in answer.hits]

    Raises `ConfigError` where not one of text and image is given, and as `ask` and `Index.open`.
    """
    if (text is None) == (image is None):
        raise ConfigError("give a text or `image`, one of them")
    index = Index.open(opened_model(model, checkpoint), store, exact=exact)
    return ask(index, text=text, image=None if image is None else Path(image), k=k, where=where)


def ask(
    index: Index,
    *,
    text: str | None = None,
    image: Path | None = None,
    k: int = 10,
    where: str | None = None,
) -> Answer:
    """Search by one text or one image file.

    Raises `DataError` where the image cannot be read, `ConfigError` for an empty text.
    """
    assert (text is None) != (image is None), "one of text and image"
    if image is not None:
        rows = index.embedder.encode_image(image, form=index.form)
        return Answer(None, image, where, index.search(rows, k, among="texts", where=where)[0])
    assert text is not None
    check_text(text)
    rows = index.embedder.encode_text(text, form=index.form)
    return Answer(text, None, where, index.search(rows, k, where=where)[0])


def answer_facts(answer: Answer, index: Index) -> dict[str, Any]:
    """What `--json` prints; `recall_at_10` is None where every energy was computed."""
    lists = index.card.lists.get(answer.among)
    return {
        "text": answer.text,
        "image": None if answer.image is None else str(answer.image),
        "among": answer.among,
        "where": answer.where,
        "form": index.form,
        "store": index.store.uri,
        "version": index.card.version,
        "rows": index.card.rows,
        "behind": index.stale_rows,
        "recall_at_10": None if lists is None else lists.recall_at_10,
        "hits": [asdict(hit) for hit in answer.hits],
    }


def answer_page(answer: Answer, index: Index) -> str:
    """A gallery as HTML text, complete in itself."""
    title = answer.text if answer.image is None else f"Captions for {answer.image.name}"
    where = f" where {answer.where}" if answer.where else ""
    found = plural(len(answer.hits), "item", "items")
    lead = (
        f"{found} of lowest energy{_unit(index)} among {index.card.rows:,} of {index.store.uri}"
        f" version {index.card.version}{where}, best first."
    )
    header = f'<p class="soft">{escape(lead)}</p>'
    if answer.image is not None:
        uri = thumbnail(answer.image.read_bytes())
        header += f'<img src="{uri}" alt="The image that was asked with">' if uri else ""
    images = index.images([hit.row for hit in answer.hits])
    body = cards(
        Card(image, hit.id, _note(hit), hit.caption)
        for hit, image in zip(answer.hits, images, strict=True)
    )
    return document(title or "", header, body if answer.hits else f"<p>{answer.nothing}</p>")


def _note(hit: Hit) -> str:
    match = "" if hit.probability is None else f", match {percent(hit.probability)}"
    return f"energy {number(hit.energy)}{match}"


def _unit(index: Index) -> str:
    return " (nats)" if index.form == "calibrated" else ""


# What the pages of this room share: one file, no network, no script, the doctor's look.


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


@dataclass(frozen=True)
class Card:
    """One item of the store: the bytes of its image, its id, a line about it, its caption."""

    image: bytes | None
    id: str
    note: str
    caption: str | None


def cards(items: Iterable[Card]) -> str:
    """A grid of items; what is no image is left out."""
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
    uri = thumbnail(item.image)
    alt = escape(item.caption or item.id)
    image = f'<img src="{uri}" alt="{alt}" loading="lazy">' if uri else ""
    caption = f'<q dir="auto">{escape(item.caption)}</q>' if item.caption else ""
    return f"<li>{image}<b>{escape(item.id)}</b><div>{escape(item.note)}</div>{caption}</li>"
