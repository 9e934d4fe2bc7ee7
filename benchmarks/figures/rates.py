"""Recall at 1 over the learning rate, a panel for each batch size, a line for each objective."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from figures.style import write_svg

__all__ = ["draw_rates"]

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 240, 56, 44, 24
ROW = HEIGHT + 76
COLUMNS = 2
COLOURS = {"tijepa": "#0b7285", "clip": "#c2410c", "siglip": "#7c3aed"}
LABELS = {
    "tijepa": "without negatives (tijepa)",
    "clip": "with negatives (CLIP)",
    "siglip": "with negatives (SigLIP)",
}


def draw_rates(record: dict[str, Any], path: Path) -> None:
    """Write an SVG: validation recall of every rate tried, test mean and range at the best one."""
    batches = sorted(record["summary"], key=int)
    tried = record["learning_rates_tried"]
    exponents = [math.log2(r["lr"]) for r in tried]
    low, high = min(exponents) - 0.3, max(exponents) + 0.3
    peaks = [r["validation"] for r in tried]
    peaks += [row["range"][1] for by in record["summary"].values() for row in by.values()]
    top = max(1, math.ceil(10 * max(peaks))) / 10
    parts: list[str] = []
    for number, batch in enumerate(batches):
        left = LEFT + number % COLUMNS * (WIDTH + GAP)
        above = TOP + number // COLUMNS * ROW

        def x(lr: float, left: int = left) -> float:
            return left + WIDTH * (math.log2(lr) - low) / (high - low)

        def y(recall: float, above: int = above) -> float:
            return above + HEIGHT * (1 - recall / top)

        parts.append(f'<text class="title" x="{left}" y="{above - 18}">batch {batch}</text>')
        for tick in range(round(10 * top) + 1):
            level = y(tick / 10)
            parts.append(
                f'<line x1="{left}" x2="{left + WIDTH}" y1="{level:.1f}" y2="{level:.1f}" '
                'stroke="#8b949e" stroke-opacity=".25"/>'
            )
            if number % COLUMNS == 0:
                parts.append(
                    f'<text x="{left - 8}" y="{level + 4:.1f}" text-anchor="end">'
                    f"{10 * tick} %</text>"
                )
        for lr in sorted({r["lr"] for r in tried})[::2]:
            parts.append(
                f'<text x="{x(lr):.1f}" y="{above + HEIGHT + 20}" text-anchor="middle">'
                f"{lr:.2g}</text>"
            )
        for name, row in record["summary"][batch].items():
            colour = COLOURS[name]
            points = sorted(
                (r["lr"], r["validation"])
                for r in tried
                if r["objective"] == name and str(r["batch"]) == batch
            )
            line = " ".join(f"{x(lr):.1f},{y(v):.1f}" for lr, v in points)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{x(lr):.1f}" cy="{y(v):.1f}" r="3.5" fill="{colour}"/>'
                for lr, v in points
            ]
            at, (least, most) = x(row["lr"]) + 9, row["range"]
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(least):.1f}" y2="{y(most):.1f}" '
                f'stroke="{colour}" stroke-width="5" stroke-opacity=".5"/>'
            )
    columns = min(COLUMNS, len(batches))
    height = TOP + -(-len(batches) // COLUMNS) * ROW + 20
    for place, name in enumerate(record["summary"][batches[0]]):
        parts.append(
            f'<text x="{LEFT + 190 * place}" y="{height - 32}" style="fill:{COLOURS[name]}">'
            f"● {LABELS[name]}</text>"
        )
    parts.append(
        f'<text x="{LEFT}" y="{height - 10}">recall at 1 over learning rate: dots one seed on '
        "validation, bars the range of the seeds on test</text>"
    )
    write_svg(
        path,
        LEFT + columns * (WIDTH + GAP),
        height,
        "Recall at 1 over learning rate, with and without negatives",
        parts,
    )
