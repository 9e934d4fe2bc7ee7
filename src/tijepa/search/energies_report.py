"""How the energies of many pairs are spread, and the pairs at both ends: facts, list and page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.store.source import Store
from tijepa.data.validation.page import escape, percent
from tijepa.io.files import whole
from tijepa.io.formatting import number
from tijepa.model.saving import write_json
from tijepa.runs.report.shell import write_page
from tijepa.search.answer import Card, cards, document

__all__ = ["spread", "write_list", "write_report"]

BINS = 40
EXAMPLES = 24  # shown at either end
_ROWS = 8192  # of a list, looked up together

_WIDTH, _HEIGHT, _FOOT = 640, 180, 20  # of the viewBox


@dataclass(frozen=True)
class _Example:
    """One judged pair, with the bytes of its image."""

    id: str
    caption: str
    energy: float
    probability: float | None
    image: bytes | None


def _histogram(
    values: NDArray[np.float64],
    kept: NDArray[np.bool_],
    bounds: tuple[float, float] | None = None,
) -> dict[str, list[float]]:
    """`edges` of equal bins and the numbers of `kept` and `dropped` pairs between them."""
    edges = np.histogram_bin_edges(values, BINS, bounds)
    return {
        "edges": edges.tolist(),
        "kept": np.histogram(values[kept], edges)[0].tolist(),
        "dropped": np.histogram(values[~kept], edges)[0].tolist(),
    }


def spread(
    energies: NDArray[np.float64],
    probabilities: NDArray[np.float64] | None,
    kept: NDArray[np.bool_],
) -> dict[str, Any]:
    """How energies and, where the model has them, probabilities of match lie, as facts."""
    return {
        "highest_energy_kept": float(energies[kept].max()),
        "histogram": _histogram(energies, kept),
        "match_probability": None
        if probabilities is None
        else {
            "mean": float(probabilities.mean()),
            "lowest_kept": float(probabilities[kept].min()),
            "histogram": _histogram(probabilities, kept, (0.0, 1.0)),
        },
    }


def write_report(
    out: Path,
    name: str,
    *,
    title: str,
    lead: str,
    tiles: Mapping[str, int],
    facts: dict[str, Any],
    store: Store,
    about: Callable[[NDArray[np.int64]], list[dict[str, Any]]],
    order: NDArray[np.int64],
) -> dict[str, Any]:
    """Write `name`.html and `name`.json into `out`; the facts, with the pairs at both ends.

    `order` are the pairs by energy, the lowest first, and `about` tells what lists say of some.
    """
    best, worst = about(order[:EXAMPLES]), about(order[::-1][:EXAMPLES])
    page = _page(title, lead, tiles, facts, _shown(store, worst), _shown(store, best))
    write_page(out / f"{name}.html", page)
    facts = {**facts, "worst": worst, "best": best}
    write_json(facts, out / f"{name}.json")
    return facts


def write_list(
    path: Path,
    about: Callable[[NDArray[np.int64]], list[dict[str, Any]]],
    pairs: NDArray[np.int64],
) -> None:
    """Write one line of JSON for each of `pairs`, whole or not at all."""
    with whole(path) as part, open(part, "w", encoding="utf-8") as file:
        for start in range(0, len(pairs), _ROWS):
            lines = about(pairs[start : start + _ROWS])
            file.writelines(json.dumps(line) + "\n" for line in lines)


def _page(
    title: str,
    lead: str,
    tiles: Mapping[str, int],
    facts: dict[str, Any],
    worst: Iterable[_Example],
    best: Iterable[_Example],
) -> str:
    """The page as HTML text: counts, what `spread` says, and the pairs at both ends."""
    unit = ", nats" if facts["form"] == "calibrated" else ""
    boxes = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{count:,}</dd></div>'
        for name, count in tiles.items()
    )
    header = f'<p class="soft">{escape(lead)}</p><dl class="tiles">{boxes}</dl>'
    parts = [
        f"<h2>Energies ({escape(facts['form'])}{unit})</h2>",
        _bars("Pairs by energy", facts["histogram"]),
    ]
    match = facts["match_probability"]
    if match is not None:
        parts += [
            "<h2>Probability of match</h2>",
            f'<p class="soft">On average {percent(match["mean"])}, at equal odds of a matched and a'
            " shuffled pair.</p>",
            _bars("Pairs by probability of match", match["histogram"]),
        ]
    parts += [
        "<h2>The worst pairs</h2>",
        '<p class="soft">Of highest energy, the worst first.</p>',
        cards(map(_card, worst)),
        "<h2>The best pairs</h2>",
        '<p class="soft">Of lowest energy, the best first.</p>',
        cards(map(_card, best)),
    ]
    return document(title, header, "".join(parts))


def _shown(store: Store, pairs: list[dict[str, Any]]) -> list[_Example]:
    """Pairs as the lists name them, with their images."""
    rows = np.unique([pair["row"] for pair in pairs])
    images = dict(zip(rows.tolist(), store.images(rows), strict=True))
    return [
        _Example(p["id"], p["caption"], p["energy"], p["probability"], images[p["row"]])
        for p in pairs
    ]


def _card(example: _Example) -> Card:
    p = example.probability
    match = "" if p is None else f", match {percent(p)}"
    note = f"energy {number(example.energy)}{match}"
    return Card(example.image, example.id, note, example.caption)


def _bars(title: str, bins: dict[str, list[float]]) -> str:
    """Bars with the kept part in one colour and the dropped part, on top of it, in another."""
    kept, dropped, edges = bins["kept"], bins["dropped"], bins["edges"]
    most = max((a + b for a, b in zip(kept, dropped, strict=True)), default=1) or 1
    step, room = _WIDTH / max(len(kept), 1), _HEIGHT - _FOOT
    shapes = []
    for k, (good, bad) in enumerate(zip(kept, dropped, strict=True)):
        for count, below, colour, word in (
            (good, 0, "var(--bar)", "kept"),
            (bad, good, "var(--bad)", "dropped"),
        ):
            if count:
                height = room * count / most
                y = room - room * below / most - height
                shapes.append(
                    f'<rect x="{k * step + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}"'
                    f' height="{height:.1f}" fill="{colour}"><title>{number(edges[k])} to'
                    f" {number(edges[k + 1])}: {count:,} {word}</title></rect>"
                )
    ends = (
        f'<text x="0" y="{_HEIGHT - 4}">{number(edges[0])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{number(edges[-1])}</text>'
    )
    dropped_above = (
        '<p class="soft">Kept below, <span style="color:var(--bad)">dropped above</span>.</p>'
    )
    about = f"{title}: from {number(edges[0])} to {number(edges[-1])}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(about)}"'
        ' style="width:100%;max-width:760px;font-size:13px;fill:var(--soft)">'
        f"{''.join(shapes)}{ends}</svg>" + (dropped_above if any(dropped) else "")
    )
