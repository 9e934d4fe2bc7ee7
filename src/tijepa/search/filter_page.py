"""filter.html: how the energies are spread, and the pairs at both ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tijepa.data.doctor.pieces import escape, percent
from tijepa.evaluate.formatting import number
from tijepa.search.page import Card, cards, document

__all__ = ["Example", "filter_page"]

_WIDTH, _HEIGHT, _FOOT = 640, 180, 20  # of the viewBox


@dataclass(frozen=True)
class Example:
    """One judged pair, with the bytes of its picture."""

    id: str
    caption: str
    energy: float
    probability: float | None
    picture: bytes | None


def filter_page(facts: dict[str, Any], worst: Iterable[Example], best: Iterable[Example]) -> str:
    """The page as HTML text."""
    unit = ", nats" if facts["form"] == "calibrated" else ""
    where = f" where {facts['where']}" if facts["where"] else ""
    lead = f"{facts['pairs']:,} pairs{where}, judged in store version {facts['version']}."
    tiles = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{facts[key]:,}</dd></div>'
        for name, key in (("Pairs", "pairs"), ("Kept", "kept"), ("Dropped", "dropped"))
    )
    header = f'<p class="soft">{escape(lead)}</p><dl class="tiles">{tiles}</dl>'
    parts = [
        f"<h2>Energies ({escape(facts['form'])}{unit})</h2>",
        _histogram("Pairs by energy", facts["histogram"]),
    ]
    match = facts["match_probability"]
    if match is not None:
        parts += [
            "<h2>Probability of match</h2>",
            f'<p class="soft">On average {percent(match["mean"])}, at equal odds of a matched and a'
            " shuffled pair.</p>",
            _histogram("Pairs by probability of match", match["histogram"]),
        ]
    parts += [
        "<h2>The worst pairs</h2>",
        '<p class="soft">Of highest energy, the worst first.</p>',
        cards(map(_card, worst)),
        "<h2>The best pairs</h2>",
        '<p class="soft">Of lowest energy, the best first.</p>',
        cards(map(_card, best)),
    ]
    return document(f"Filter: {facts['store']}", header, "".join(parts))


def _card(example: Example) -> Card:
    p = example.probability
    match = "" if p is None else f", match {percent(p)}"
    note = f"energy {number(example.energy)}{match}"
    return Card(example.picture, example.id, note, example.caption)


def _histogram(title: str, bins: dict[str, list[float]]) -> str:
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
    about = f"{title}: from {number(edges[0])} to {number(edges[-1])}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(about)}"'
        ' style="width:100%;max-width:760px;font-size:13px;fill:var(--soft)">'
        f"{''.join(shapes)}{ends}</svg>"
        '<p class="soft">Kept below, <span style="color:var(--bad)">dropped above</span>.</p>'
    )
