"""The picture of the negatives benchmark: recall at 1 over the learning rate, a panel per batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 260, 56, 44, 24
COLOURS = {"tijepa": "#0b7285", "clip": "#c2410c"}
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}"
    ".title{font-weight:600;fill:#24292f}"
    "@media(prefers-color-scheme:dark){text{fill:#9da7b1}.title{fill:#e6edf3}}"
)


def draw_rates(record: dict[str, Any], path: Path) -> None:
    """Write an SVG: validation recall of every rate tried, test mean and range at the best one."""
    batches = sorted(record["summary"], key=int)
    tried = record["learning_rates_tried"]
    exponents = [math.log2(r["lr"]) for r in tried]
    low, high = min(exponents) - 0.3, max(exponents) + 0.3
    peaks = [r["validation"] for r in tried]
    peaks += [row["range"][1] for by in record["summary"].values() for row in by.values()]
    top = math.ceil(10 * max(peaks)) / 10
    width = LEFT + len(batches) * (WIDTH + GAP)
    height = TOP + HEIGHT + 64
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Recall at 1 over learning rate, with and without negatives">',
        f"<style>{STYLE}</style>",
    ]
    for number, batch in enumerate(batches):
        left = LEFT + number * (WIDTH + GAP)

        def x(lr: float, left: int = left) -> float:
            return left + WIDTH * (math.log2(lr) - low) / (high - low)

        def y(recall: float) -> float:
            return TOP + HEIGHT * (1 - recall / top)

        parts.append(f'<text class="title" x="{left}" y="{TOP - 18}">batch {batch}</text>')
        for tick in range(round(10 * top) + 1):
            level = y(tick / 10)
            parts.append(
                f'<line x1="{left}" x2="{left + WIDTH}" y1="{level:.1f}" y2="{level:.1f}" '
                'stroke="#8b949e" stroke-opacity=".25"/>'
            )
            if number == 0:
                parts.append(
                    f'<text x="{left - 8}" y="{level + 4:.1f}" text-anchor="end">'
                    f"{10 * tick} %</text>"
                )
        for lr in sorted({r["lr"] for r in tried}):
            parts.append(
                f'<text x="{x(lr):.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">'
                f"{lr:.2g}</text>"
            )
        for name, colour in COLOURS.items():
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
            row = record["summary"][batch][name]
            at, (least, most) = x(row["lr"]) + 9, row["range"]
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(least):.1f}" y2="{y(most):.1f}" '
                f'stroke="{colour}" stroke-width="5" stroke-opacity=".5"/>'
            )
            label = "without negatives (tijepa)" if name == "tijepa" else "with negatives (CLIP)"
            parts.append(
                f'<text x="{left + WIDTH}" y="{TOP + 14 + 18 * list(COLOURS).index(name)}" '
                f'text-anchor="end" style="fill:{colour}">{label}</text>'
            )
    parts.append(
        f'<text x="{LEFT}" y="{height - 12}">recall at 1 over learning rate, scenes: dots one '
        "seed on validation, bars the range of three seeds on test</text></svg>"
    )
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
