"""One question to an index and its answer: as JSON, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tijepa.data.images import viewable
from tijepa.errors import ConfigError
from tijepa.inference.embedder import Embedder
from tijepa.inference.inputs import check_text
from tijepa.inference.match_probability import BASE_RATE
from tijepa.io.formatting import number, percent, plural, score_name, values_in_words, without_nan
from tijepa.io.page import thumbnail, write_page
from tijepa.search.exact import Hit, fits
from tijepa.search.index import Index, opened_model
from tijepa.search.vector_store import Side

_SIDE = 420  # pixels of the longer side of an image on a page


@dataclass(frozen=True)
class Answer:
    """The hits for `text`, which asks for images, or for `image`.

    An image asks for captions, or with `alike` for images like it.
    """

    text: str | None
    image: Path | None
    where: str | None
    hits: list[Hit]
    alike: bool = False

    @property
    def among(self) -> Side:
        """What was searched."""
        return "images" if self.image is None or self.alike else "texts"

    @property
    def fits(self) -> bool | None:
        """Whether anything found fits, as `tijepa.search.exact.fits`."""
        return fits(self.hits)

    @property
    def base_rate(self) -> float | None:
        """How probable a match is by chance, where hits have a probability."""
        return None if self.fits is None else BASE_RATE

    @property
    def nothing(self) -> str | None:
        """What is said where there is no hit, or none that fits."""
        what = "images" if self.among == "images" else "captions"
        if not self.hits:
            return f"no {what} meet the condition" if self.where else f"the store holds no {what}"
        if self.fits is not False:
            return None
        best = percent(self.hits[0].probability or 0.0)
        return (
            f"nothing fits: the best hit's probability of match, {best}, lies far below its base"
            f" rate of {percent(BASE_RATE)}; the nearest {what} all the same:"
        )


def search(
    model: Embedder | str | Path,
    store: str,
    text: str | None = None,
    *,
    image: str | Path | None = None,
    alike: bool = False,
    k: int = 10,
    where: str | None = None,
    exact: bool = False,
    backend: str | None = None,
    checkpoint: str | None = None,
) -> Answer:
    """The k images of `store` that score highest for `text`, or the captions for the file `image`.

    With `alike` the file asks for images instead, for those that are like it.

    `tijepa.index` has to be called before. `where` is a condition on the store's columns;
    `model`, `checkpoint` and `exact` are as there, `backend` as in `Index.open`. For many questions
    keep the `Index`.

        answer = tijepa.search("runs/photos", "photos.lance", "two dogs", where="split = 'test'")
        [(hit.id, hit.score, hit.caption) for hit in answer.hits]

    Raises `ConfigError` where not one of text and image is given, and as `ask` and `Index.open`.
    """
    if (text is None) == (image is None):
        raise ConfigError("give a text or `image`, one of them")
    if alike and image is None:
        raise ConfigError("`alike` needs an `image` that others are to be like")
    index = Index.open(opened_model(model, checkpoint), store, exact=exact, backend=backend)
    file = None if image is None else Path(image)
    return ask(index, text=text, image=file, alike=alike, k=k, where=where)


def ask(
    index: Index,
    *,
    text: str | None = None,
    image: Path | None = None,
    alike: bool = False,
    k: int = 10,
    where: str | None = None,
) -> Answer:
    """Search by one text or one image file.

    Raises `DataError` where the image cannot be read, `ConfigError` for an empty text.
    """
    assert (text is None) != (image is None), "one of text and image"
    if text is not None:
        check_text(text)
        hits = index.search(index.embedder.encode_text(text, form=index.form), k, where=where)[0]
    else:
        assert image is not None
        rows = index.embedder.encode_image(image, form=index.form)
        found = (
            index.search_alike(rows, k, where=where)
            if alike
            else index.search(rows, k, among="texts", where=where)
        )
        hits = found[0]
    return Answer(text, image, where, index.described(hits), alike)


def answer_facts(answer: Answer, index: Index) -> dict[str, Any]:
    """What `--json` prints.

    `fits` is false where nothing found fits (`fits`), and `base_rate` what a probability of match
    is by chance; both are None where the model has none. `recall_at_10` is None where every score
    was computed.
    """
    lists = None if answer.alike else index.card.lists.get(answer.among)
    return {
        "text": answer.text,
        "image": None if answer.image is None else str(answer.image),
        "among": answer.among,
        "alike": answer.alike,
        "where": answer.where,
        "form": "cosine" if answer.alike else index.form,
        "store": index.store.uri,
        "version": index.card.version,
        "rows": index.card.rows,
        "behind": index.stale_rows,
        "recall_at_10": None if lists is None else lists.recall_at_10,
        "base_rate": answer.base_rate,
        "fits": answer.fits,
        "hits": [without_nan(asdict(hit)) for hit in answer.hits],
    }


def write_answer(path: Path, answer: Answer, index: Index, columns: Sequence[str] = ()) -> None:
    """Write the answer as a gallery, one page; `CheckpointError` where that is not possible.

    Under each hit stands what `columns` say of it.
    """
    asked = answer.image
    images = index.images([hit.row for hit in answer.hits])
    write_page(
        path,
        "answer.html",
        title=answer.text
        if asked is None
        else f"{'Images like' if answer.alike else 'Captions for'} {asked.name}",
        found=plural(len(answer.hits), "item", "items"),
        score=score_name("cosine" if answer.alike else index.form),
        store=f"{index.card.rows:,} rows of {index.store.uri}, version {index.card.version}",
        where=answer.where,
        asked=None if asked is None else thumbnail(viewable(asked.read_bytes(), _SIDE), _SIDE),
        nothing=answer.nothing,
        base_rate=answer.base_rate,
        cards=[
            Card.of(
                image,
                hit.id,
                hit.caption,
                "score",
                hit.score,
                hit.probability,
                values_in_words(hit.columns, columns),
            )
            for hit, image in zip(answer.hits, images, strict=True)
        ],
    )


@dataclass(frozen=True)
class Card:
    """One item of the store on a page: its image as data URI, id, caption, and lines about it."""

    image: str | None
    id: str
    caption: str | None
    note: str
    values: str = ""

    @staticmethod
    def of(
        image: bytes | None,
        id: str,
        caption: str | None,
        name: Literal["energy", "score"],
        value: float,
        probability: float | None,
        values: str = "",
    ) -> Card:
        """From the bytes of its image, which may be damaged, and what the model says of it."""
        match = "" if probability is None else f", match {percent(probability)}"
        uri = thumbnail(viewable(image, _SIDE), _SIDE)
        return Card(uri, id, caption, f"{name} {number(value)}{match}", values)
