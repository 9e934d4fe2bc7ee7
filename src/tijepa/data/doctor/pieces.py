"""Small pieces of the page: safe text, numbers, bars, tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["bars", "escape", "percent", "plural", "table"]


def escape(text: object) -> str:
    """`text` for HTML: markup is shown, never interpreted; control characters are dropped."""
    kept = "".join(c for c in str(text) if c in "\n\t" or (ord(c) >= 32 and ord(c) != 127))
    return html.escape(kept, quote=True)


def percent(share: int | float) -> str:
    """A fraction as per cent: 74.2 %; with more digits where that would be 0."""
    value = 100 * share
    return f"{value:.{1 if value == 0 or value >= 0.1 else 3}f}\u00a0%"


def plural(number: int, one: str, many: str) -> str:
    """1 item, 2,000 items."""
    return f"{number:,} {one if number == 1 else many}"


def bars(counts: Mapping[str, int | float], *, shares: bool = False) -> str:
    """Horizontal bars, the longest as wide as there is room."""
    largest = max(counts.values(), default=0) or 1
    rows = []
    for name, value in counts.items():
        shown = percent(value) if shares else f"{value:,.0f}"
        width = f"{100 * value / largest:.1f}%"
        rows.append(
            f'<dt>{escape(name)}</dt><dd><i style="width:{width}"></i></dd><dd>{shown}</dd>'
        )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls sideways on a narrow screen; the first cell of a row names it."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(head[0])}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(value)
