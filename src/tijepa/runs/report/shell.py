"""A whole page: one file that needs no network and runs no script, written at once or not at all.

A content security policy in the page forbids whatever should slip past escaping to load or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tijepa.io.files import write_whole
from tijepa.io.formatting import escape
from tijepa.runs.report.style import STYLE
from tijepa.version import __version__

__all__ = ["DIRECTIONS", "paragraph", "table", "unknown", "whole_page", "write_page"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


def whole_page(title: str, header: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """HTML of a page; `sections` are (id, title, HTML), and the header links to each."""
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in sections)
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{name}</h2>'
        f"{content}</section>"
        for key, name, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f'<header>{header}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>{body}</main>\n"
        f"<footer>Written by tijepa {escape(__version__)}. This file is complete: it loads nothing"
        " and runs nothing.</footer></body></html>\n"
    )


def write_page(path: Path, page: str) -> None:
    """Write beside `path`, then rename, so that a reader sees the old page or the new one.

    Raises `CheckpointError` where that is not possible.
    """
    write_whole(path, page.encode("utf-8", errors="replace"))


# Small pieces that every section of the page uses.


DIRECTIONS = (("image_to_text", "Image → text"), ("text_to_image", "Text → image"))


def paragraph(text: str, kind: str = "about") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def unknown(text: str) -> str:
    """What a section says where it has nothing to show."""
    return paragraph(text, "empty")


def table(caption: str, head: str, body: str) -> str:
    """A table that scrolls sideways on a narrow screen; `head` and `body` are HTML rows."""
    top = f"<thead>{head}</thead>" if head else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption>{top}<tbody>{body}</tbody></table></div>"
    )
