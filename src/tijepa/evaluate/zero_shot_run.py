"""Zero-shot classification of a split by the values of one of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from tijepa.data.pairs import PairSource
from tijepa.data.scenes import Scenes
from tijepa.embedder import Embedder
from tijepa.encoding.labels import energy_of_labels, prompt_list
from tijepa.errors import DataError
from tijepa.evaluate.formatting import DASH, count, percent
from tijepa.evaluate.labelled import labelled_pictures
from tijepa.evaluate.prompts import default_prompts, read_prompts
from tijepa.evaluate.zero_shot import zero_shot

__all__ = ["zero_shot_on", "zero_shot_table"]

_SHOWN = 40  # labels of the table


def zero_shot_on(
    embedder: Embedder, source: PairSource, column: str, prompts: Path | None, items: int
) -> dict[str, Any]:
    """Classify up to `items` pictures of `source` by the prompts of the values of `column`.

    The labels are the values that occur, or those of the file `prompts` where it lists them. The
    energy of a label is the mean over its prompts, by the model's default form. Raises `DataError`
    and `ConfigError` as `labelled_pictures` and `read_prompts` do, and `DataError` for a value that
    the file leaves out or where there is but one label.
    """
    read = None if prompts is None else read_prompts(prompts)
    found = labelled_pictures(source, column, embedder.card, items)
    chosen = read or default_prompts(column, scenes=isinstance(source, Scenes))
    by_label = chosen.of(sorted(set(found.values)))
    names = list(by_label)
    for value in found.values:
        if value not in by_label:
            raise DataError(f"column '{column}' holds '{value}', for which {prompts} has no label")
    if len(names) < 2:
        raise DataError(f"column '{column}' has one label, '{names[0]}': there is nothing to tell")
    texts = prompt_list(by_label)
    e = embedder.embeddings_of_inputs(found.images, [text for own in texts for text in own])
    form = embedder.default_form
    energy = energy_of_labels(embedder.search_energies_of(e, form).texts, list(map(len, texts)))
    label = torch.tensor([names.index(value) for value in found.values])
    scored = zero_shot(energy, label, names).to_dict()
    prompted = {label: own[0] for label, own in zip(names, texts, strict=True)}
    return {"column": column, "form": form, "prompts": prompted, **scored}


def zero_shot_table(found: Mapping[str, Any]) -> Table:
    """A row per label, the most frequent first; the total, and chance, in the caption."""
    title = f"Zero-shot {found['column']}: {count(found['items'])} pictures,"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{title} {len(found['labels'])} labels",
        title_justify="left",
        title_style="bold",
        caption=_caption(found),
        caption_justify="left",
        caption_style="",
    )
    table.add_column("label")
    for heading in ("pictures", "top 1"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("most often taken for")
    ordered = sorted(found["labels"], key=lambda one: -one["items"])
    for one in ordered[:_SHOWN]:
        right = DASH if one["top_1"] is None else percent(one["top_1"])
        table.add_row(one["label"], count(one["items"]), right, one["taken_for"] or "")
    return table


def _caption(found: Mapping[str, Any]) -> str:
    top_5 = found["top_5"]
    parts = [f"top 1 {percent(found['top_1'])}"]
    if top_5 is not None:
        parts.append(f"top 5 {percent(top_5)}")
    parts.append(f"mean over labels {percent(found['mean_per_label'])}")
    left_out = len(found["labels"]) - _SHOWN
    more = f"; {left_out} labels more with --json" if left_out > 0 else ""
    return (
        f"{', '.join(parts)} (chance {percent(found['chance'])}, always the most frequent label"
        f" {percent(found['majority'])}){more}"
    )
