"""Matrices side by side: a coloured cell with two lines of text for each pair of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures.style import write_svg

__all__ = ["Cell", "draw_matrix"]

SIDE, LINE, LEFT, TOP, GAP = 92, 46, 104, 66, 28


@dataclass(frozen=True)
class Cell:
    """What one cell shows; a `mark` draws a border around it."""

    colour: str
    first: str
    second: str
    mark: bool = False


def draw_matrix(
    path: Path,
    *,
    label: str,
    panels: Mapping[str, Mapping[tuple[str, str], Cell]],
    rows: Sequence[str],
    columns: Sequence[str],
    legend: Mapping[str, str],
    note: str,
) -> None:
    """Write an SVG with a matrix for each panel; `legend` is colour by meaning."""
    parts: list[str] = []
    width = len(columns) * SIDE
    for number, (title, cells) in enumerate(panels.items()):
        left = LEFT + number * (width + GAP)
        parts.append(f'<text class="title" x="{left}" y="20">{title}</text>')
        for column, name in enumerate(columns):
            middle = left + (column + 0.5) * SIDE
            parts.append(f'<text x="{middle}" y="{TOP - 10}" text-anchor="middle">{name}</text>')
        for row, name in enumerate(rows):
            above = TOP + row * LINE
            if number == 0:
                parts.append(
                    f'<text x="{left - 10}" y="{above + 27}" text-anchor="end">{name}</text>'
                )
            for column, other in enumerate(columns):
                if (name, other) in cells:
                    parts += _cell(cells[name, other], left + column * SIDE, above)
    below = TOP + len(rows) * LINE + 24
    at = LEFT
    for meaning, colour in legend.items():
        parts.append(f'<rect x="{at}" y="{below - 11}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{at + 18}" y="{below}">{meaning}</text>')
        at += 34 + 8 * len(meaning)
    parts.append(f'<text x="{LEFT}" y="{below + 24}">{note}</text>')
    total = LEFT + len(panels) * (width + GAP)
    write_svg(path, total, below + 36, label, parts)


def _cell(cell: Cell, left: int, above: int) -> list[str]:
    edge = ' stroke="#d29922" stroke-width="3"' if cell.mark else ""
    middle = left + SIDE / 2
    return [
        f'<rect x="{left + 2}" y="{above + 2}" width="{SIDE - 4}" height="{LINE - 4}" rx="4" '
        f'fill="{cell.colour}"{edge}/>',
        f'<text class="inside" x="{middle}" y="{above + 20}" text-anchor="middle">'
        f"{cell.first}</text>",
        f'<text class="inside" x="{middle}" y="{above + 36}" text-anchor="middle">'
        f"{cell.second}</text>",
    ]
