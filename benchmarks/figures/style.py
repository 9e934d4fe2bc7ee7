"""What all images share: one sheet for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_svg"]

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#57606a}"
    ".title{font-weight:600;fill:#24292f}"
    ".inside{font-weight:600;fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#9da7b1}.title{fill:#e6edf3}}"
)


def write_svg(path: Path, width: int, height: int, label: str, parts: Iterable[str]) -> None:
    """One file with its style; `label` says in words what is seen."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">'
    )
    lines = [head, f"<style>{_STYLE}</style>", *parts, "</svg>"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
