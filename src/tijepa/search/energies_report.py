"""How the energies of many pairs are spread, and the pairs at both ends: facts, list and page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tijepa.data.store.source import Store
from tijepa.inference.match_probability import BASE_RATE, MatchProbability
from tijepa.io.files import whole, writing
from tijepa.io.formatting import count, energy_name, number, percent
from tijepa.io.page import write_page
from tijepa.model.saving import write_json
from tijepa.runs.report.charts import (
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    figure,
    grid,
    rule,
    short,
    svg,
    tick_label,
)
from tijepa.search.answer import Card
from tijepa.search.embed_store import Embedded
from tijepa.search.pair_energies import match_probabilities

BINS = 40
EXAMPLES = 24  # shown at either end
_ROWS = 8192  # of a list, looked up together

_WIDTH = 880  # of the viewBox of a histogram


def _histogram(
    values: NDArray[np.float64], kept: NDArray[np.bool_], bounds: tuple[float, float] | None = None
) -> dict[str, list[float]]:
    """`edges` of equal bins and the numbers of `kept` and `dropped` pairs between them."""
    edges = np.histogram_bin_edges(values, BINS, bounds)
    return {
        "edges": edges.tolist(),
        "kept": np.histogram(values[kept], edges)[0].tolist(),
        "dropped": np.histogram(values[~kept], edges)[0].tolist(),
    }


def write_report(
    out: Path,
    name: str,
    match_by: MatchProbability | None,
    embedded: Embedded,
    energies: NDArray[np.float64],
    kept: NDArray[np.bool_],
    about: Callable[[NDArray[np.int64]], list[dict[str, Any]]],
    *,
    facts: Mapping[str, Any],
    lists: Mapping[str, NDArray[np.int64]],
    order: NDArray[np.int64],
    title: str,
    lead: str,
    tiles: Mapping[str, int],
) -> dict[str, Any]:
    """Write `name`.html, `name`.json and `lists` of pairs, a line of JSON each, into `out`.

    `energies` are those of all pairs, of which some are `kept`, and `match_by` makes them
    probabilities; `about` tells what a list says of
    some pairs, beside energy and probability of match, and `order` are the pairs to show, of lowest
    energy first. Gives the facts: where the pairs are from, `facts`, how energies and, where the
    model has them, probabilities of match lie, and the pairs at both ends. Raises `CheckpointError`
    where nothing can be written.
    """
    store = embedded.store
    chances = match_probabilities(match_by, energies)

    def lines(some: NDArray[np.int64]) -> list[dict[str, Any]]:
        return [
            {
                **own,
                "energy": float(energies[pair]),
                "probability": None if chances is None else float(chances[pair]),
            }
            for pair, own in zip(some, about(some), strict=True)
        ]

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for each, pairs in lists.items():
        _write_list(out / f"{each}.jsonl", lines, pairs)
    best, worst = lines(order[:EXAMPLES]), lines(order[::-1][:EXAMPLES])
    highest = float(energies[kept].max())
    match: dict[str, Any] | None = None
    histogram = _histogram(energies, kept)
    charts = [_bars("Pairs by energy", histogram, highest, "up to " + number(highest))]
    if chances is not None:
        lowest = float(chances[kept].min())
        match = {
            "base_rate": BASE_RATE,
            "mean": float(chances.mean()),
            "lowest_kept": lowest,
            "histogram": _histogram(chances, kept, (0.0, 1.0)),
        }
        words = "Pairs by probability of match"
        charts.append(_bars(words, match["histogram"], lowest, "from " + percent(lowest)))
    write_page(
        out / f"{name}.html",
        "energies.html",
        title=f"{title}: {PurePosixPath(store.uri).name}",
        lead=lead,
        tiles=tiles,
        energy=energy_name(embedded.form),
        charts=charts,
        match=match,
        worst=_cards(store, worst),
        best=_cards(store, best),
    )
    found = {
        "store": store.uri,
        "version": store.version,
        "model": embedded.model,
        "form": embedded.form,
        **facts,
        "highest_energy_kept": highest,
        "histogram": histogram,
        "match_probability": match,
        "worst": worst,
        "best": best,
    }
    write_json(found, out / f"{name}.json")
    return found


def _write_list(
    path: Path, about: Callable[[NDArray[np.int64]], list[dict[str, Any]]], pairs: NDArray[np.int64]
) -> None:
    """One line of JSON for each of `pairs`, whole or not at all."""
    with whole(path) as part, open(part, "w", encoding="utf-8") as file:
        for start in range(0, len(pairs), _ROWS):
            lines = about(pairs[start : start + _ROWS])
            file.writelines(json.dumps(line) + "\n" for line in lines)


def _cards(store: Store, pairs: list[dict[str, Any]]) -> list[Card]:
    """Pairs as the lists name them, with their images."""
    rows = np.unique([pair["row"] for pair in pairs])
    images = dict(zip(rows.tolist(), store.images(rows), strict=True))
    return [
        Card.of(images[p["row"]], p["id"], p["caption"], "energy", p["energy"], p["probability"])
        for p in pairs
    ]


def _bars(title: str, bins: Mapping[str, Any], threshold: float, words: str) -> Markup:
    """A histogram, what was dropped on top of what was kept, with a dashed line at `threshold`.

    `bins` are those of `_histogram`, `words` says what was kept: up to 3.2.
    """
    edges, kept, dropped = bins["edges"], bins["kept"], bins["dropped"]
    most = max((a + b for a, b in zip(kept, dropped, strict=True)), default=0) or 1
    x = Axis(edges[0], edges[-1], LEFT, _WIDTH - RIGHT)
    y = Axis(0, most, HEIGHT - 26, TOP + 18)
    values, sizes = x.ticks(8), [tick for tick in y.ticks(4) if tick == round(tick)]
    below = [(value, tick_label(value, values)) for value in values]
    parts = [grid(x, y, below, [(size, short(size)) for size in sizes])]
    for k, (good, bad) in enumerate(zip(kept, dropped, strict=True)):
        left, right = x.at(edges[k]) + 1, x.at(edges[k + 1]) - 1
        between = f"{number(edges[k])} to {number(edges[k + 1])}"
        for size, base, kind in ((good, 0, "kept"), (bad, good, "dropped")):
            if size:
                top, foot = y.at(base + size), y.at(base)
                parts.append(
                    f'<rect class="box {kind}" x="{left:.1f}" y="{top:.1f}"'
                    f' width="{right - left:.1f}" height="{foot - top:.1f}">'
                    f"<title>{between}: {count(size)} {kind}</title></rect>"
                )
    if edges[0] < 0 < edges[-1]:
        at = x.at(0)
        parts.append(
            f'<line class="grid zero" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start}" y2="{y.end}"/>'
        )
    legend = [{"key": "box kept", "name": "kept", "value": count(sum(kept))}]
    if any(dropped):
        at = x.at(threshold)
        anchor, shift = ("end", -6) if at > _WIDTH / 2 else ("start", 6)
        parts += [
            rule(at, y.start, at, TOP),
            f'<text class="tick {anchor}" x="{at + shift:.1f}" y="{TOP + 8}">kept {words}</text>',
        ]
        legend.append({"key": "box dropped", "name": "dropped", "value": count(sum(dropped))})
    told = f"{title}: from {number(edges[0])} to {number(edges[-1])}"
    return figure(title, svg(_WIDTH, HEIGHT, told, "".join(parts)), legend)
