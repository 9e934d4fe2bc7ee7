"""How the energies of many pairs are spread, and the pairs at both ends: a page and its facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.doctor.pieces import escape, percent
from tijepa.data.store.source import Store
from tijepa.evaluate.formatting import number
from tijepa.search.page import Card, cards, document

__all__ = ["Example", "energies_page", "shown", "spread"]

BINS = 40

_WIDTH, _HEIGHT, _FOOT = 640, 180, 20  # of the viewBox


@dataclass(frozen=True)
class Example:
    """One judged pair, with the bytes of its picture."""

    id: str
    caption: str
    energy: float
    probability: float | None
    picture: bytes | None


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


def energies_page(
    title: str,
    lead: str,
    tiles: Mapping[str, int],
    facts: dict[str, Any],
    worst: Iterable[Example],
    best: Iterable[Example],
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


def shown(store: Store, pairs: list[dict[str, Any]]) -> list[Example]:
    """Pairs as the lists name them, with their pictures."""
    rows = np.unique([pair["row"] for pair in pairs])
    pictures = dict(zip(rows.tolist(), store.pictures(rows), strict=True))
    return [
        Example(p["id"], p["caption"], p["energy"], p["probability"], pictures[p["row"]])
        for p in pairs
    ]


def _card(example: Example) -> Card:
    p = example.probability
    match = "" if p is None else f", match {percent(p)}"
    note = f"energy {number(example.energy)}{match}"
    return Card(example.picture, example.id, note, example.caption)


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
