"""Small pieces that every section of the page uses."""

from __future__ import annotations

from tijepa.evaluate.formatting import escape

__all__ = ["DIRECTIONS", "paragraph", "table", "unknown"]

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
