"""What the endpoints answer, with a line on every field for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FormName = Literal["calibrated", "cosine", "squared_l2"]
_FORM = "Form of the energy; the calibrated one is in nats and may be negative."
_PROBABILITY = (
    "Probability that the two belong together, matched and mismatched pairs being equally frequent;"
    " null where the model has none."
)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Problem(_Answer):
    """Why a request was refused."""

    error: str = Field(description="One line: the value, the bound, the remedy.")


class EmbedAnswer(_Answer):
    """Joint embeddings."""

    form: FormName = Field(description=_FORM)
    dimensions: int = Field(description="Length of every embedding.")
    images: list[list[float]] = Field(description="One embedding an image, in the order sent.")
    texts: list[list[float]] = Field(description="One embedding a text, in the order sent.")


class EnergyAnswer(_Answer):
    """Energies of every image with every text; low = compatible."""

    form: FormName = Field(description=_FORM)
    energy: list[list[float]] = Field(description="One row an image, one column a text.")
    probability: list[list[float]] | None = Field(
        description=_PROBABILITY + " Given for the model's default form only."
    )


class EnergyMap(_Answer):
    """Where one text fits in the image."""

    text: str = Field(description="The text as sent.")
    energy: list[list[float]] = Field(
        description="Energy of each cell, rows from the top, columns from the left; low = here."
    )
    row: int = Field(description="Row of the lowest cell, from 0.")
    column: int = Field(description="Column of the lowest cell, from 0.")
    pair: float = Field(description="Energy of the text with the whole image.")
    probability: float | None = Field(description=_PROBABILITY)
    sameness: float = Field(description="Correlation with the map of unrelated words, -1 to 1.")
    flat: bool = Field(
        description="Whether sameness is 0.8 or more: the map may tell nothing of the text."
    )


class ExplainAnswer(_Answer):
    """Energy maps of one image."""

    form: FormName = Field(description=_FORM)
    grid: int = Field(description="Cells a side. They divide the largest centred square.")
    width: int = Field(description="Width of the upright image in pixels.")
    height: int = Field(description="Height of the upright image in pixels.")
    base_rate: float | None = Field(
        description="Probability of match by chance; null where the model has none."
    )
    maps: list[EnergyMap] = Field(description="One map a text, in the order sent.")


class Found(_Answer):
    """One item that was found."""

    row: int = Field(description="Number of the item in the store; see /items/{row}.")
    id: str = Field(description="Name of the item in the store.")
    score: float = Field(description="What the search ranks by; high = fits.")
    energy: float | None = Field(
        description="Energy of the pair, as /energy gives it; null of images that are alike."
    )
    probability: float | None = Field(description=_PROBABILITY)
    caption: str | None = Field(description="The caption found, or the item's first one.")
    split: str = Field(description="Split of the store that the item belongs to.")
    columns: dict[str, Any] = Field(description="What else the store says of the item, by name.")


class SearchAnswer(_Answer):
    """Items in order of their score, highest first."""

    form: FormName = Field(description=_FORM)
    items: int = Field(description="Number of items that were searched.")
    seconds: float = Field(description="Time it took, from request to answer.")
    base_rate: float | None = Field(
        description="Probability of match by chance; null where hits have none."
    )
    fits: bool | None = Field(
        description="False where even the best probability is under 0.1; null where hits have none."
    )
    hits: list[Found] = Field(description="The items found.")


class ItemAnswer(_Answer):
    """One item of the store."""

    row: int = Field(description="Number of the item in the store.")
    id: str = Field(description="Name of the item in the store.")
    captions: list[str] = Field(description="All its captions.")
    split: str = Field(description="Split that the item belongs to.")
    width: int | None = Field(description="Width of its image in pixels; null without image.")
    height: int | None = Field(description="Height of its image; null without image.")


class Example(_Answer):
    """An item to begin with."""

    row: int = Field(description="Number of the item in the store.")
    caption: str = Field(description="Its shortest caption.")


class ColumnAnswer(_Answer):
    """A column of the store that a condition may name."""

    name: str = Field(description="Its name, as in `columns` of a hit.")
    written: str = Field(description="The same as a condition writes it.")
    kind: Literal["boolean", "integer", "number", "text", "texts", "json"] = Field(
        description="What it holds; json: values of several kinds, as text."
    )
    values: list[bool | int | str] | None = Field(
        description="The values that occur, where they are few; else null."
    )


class About(_Answer):
    """What is served, and within which limits."""

    run: str = Field(description="Name of the run.")
    version: str = Field(description="Version of tijepa.")
    form: FormName = Field(description="The model's default form of energy.")
    forms: list[FormName] = Field(description="All forms that the model can compute.")
    probability: bool = Field(description="Whether the model gives probabilities of match.")
    image_size: int = Field(description="Pixels a side that the model sees.")
    max_tokens: int = Field(description="Tokens of a text that the model reads.")
    items: int | None = Field(description="Items that can be searched; null without a store.")
    store: str | None = Field(description="Name of the store; null without one.")
    examples: list[Example] = Field(description="Some items to begin with.")
    columns: list[ColumnAnswer] = Field(description="Columns of the store.")
    upload_bytes: int = Field(description="Most bytes of a request.")
    pixels: int = Field(description="Most pixels of an image.")
    text_length: int = Field(description="Most characters of a text.")


class Health(_Answer):
    """The server is up and its model loaded."""

    status: Literal["ok"] = Field(description="Always ok; a server that is not does not answer.")
    version: str = Field(description="Version of tijepa.")
    uptime_seconds: float = Field(description="Time since the start.")


class Direction(_Answer):
    """Recall one way."""

    recall_at_1: float | None = Field(description="Share of queries whose partner comes first.")
    recall_at_5: float | None = Field(description="Share with the partner among the first five.")
    recall_at_10: float | None = Field(description="Share with the partner among the first ten.")
    median_rank: float | None = Field(description="Median rank of the partner.")


class RunAnswer(_Answer):
    """The record of the run."""

    name: str = Field(description="Name of the run.")
    verdict: str | None = Field(
        description="healthy or collapsed; what the collapse guard says where no pooled embedding"
        " is trained; null before an evaluation."
    )
    sign: str = Field(description="The verdict as readers see it.")
    reason: str | None = Field(description="What the verdict rests on.")
    measured: str = Field(description="Which model and split the figures below are of.")
    image_to_text: Direction | None = Field(description="Texts found for an image.")
    text_to_image: Direction | None = Field(description="Images found for a text.")
    images: int | None = Field(description="Images that were searched.")
    texts: int | None = Field(description="Texts that were searched.")
    chance: float | None = Field(description="Recall at 1 by chance.")
    facts: list[tuple[str, str]] = Field(description="What was trained: term and value.")
    problems: list[str] = Field(description="What of the run's record is missing or damaged.")
    history: str = Field(description="What the collapse guard said while it trained, as HTML.")
    curves: str = Field(
        description="Curves as HTML figures with inline SVG. All text in both is escaped."
    )
