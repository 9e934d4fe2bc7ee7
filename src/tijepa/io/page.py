"""Pages: one file each that needs no network and runs no script, written at once or not at all.

Layout and style lie in `templates/`; Python prepares plain data. Every text that a template shows
is escaped, and a content security policy in the page forbids whatever should slip past to load or
run.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from tijepa.errors import DataError
from tijepa.io import formatting
from tijepa.io.files import write_whole
from tijepa.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = ("count", "number", "percent", "plain", "rank")


@dataclass(frozen=True)
class Table:
    """A table as `macros.html` shows it: the first cell of a row names it.

    `groups` are titles above the head with the columns that each spans. `words` are the columns of
    text beside the first. `states` say what is special about a row, by its position; `best` are
    (row, column).
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    groups: Sequence[tuple[str, int]] = ()
    words: Collection[int] = ()
    states: Mapping[int, str] = field(default_factory=dict)
    best: Collection[tuple[int, int]] = ()

    def kind(self, column: int) -> str:
        """How a column stands: `words` to the left, `split` apart from the one before."""
        starts = np.cumsum([span for _, span in self.groups])
        return "words" if column in (0, *self.words) else "split" if column in starts else ""


def render(template: str, **data: Any) -> Markup:
    """HTML of a template of this package.

    What is no `Markup` is escaped; control characters are shown as escapes. A name that the
    template asks for and `data` lacks is an error of Jinja.
    """
    return Markup(_templates().get_template(template).render(version=__version__, **data))


def write_page(path: Path, template: str, **data: Any) -> None:
    """Write a page beside `path`, then rename: a reader sees the old page or the new one.

    Raises `CheckpointError` where that is not possible.
    """
    write_whole(path, render(template, **data).encode("utf-8", errors="replace"))


def thumbnail(pixels: np.ndarray | None, side: int = 240) -> str | None:
    """Data URI of uint8 (height, width, 3) pixels, the longer side at most `side`; None of None.

    JPEG for photographs, PNG where that is smaller. Raises `DataError` for another shape or type.
    """
    if pixels is None:
        return None
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"an image of shape {tuple(pixels.shape)} and type {pixels.dtype} cannot be shown:"
            " give uint8 of shape (height, width, 3)"
        )
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=86, subsampling=0, optimize=True)
    lossless = io.BytesIO()
    image.save(lossless, "PNG", optimize=True)
    if lossless.tell() < jpeg.tell():
        return data_uri("png", lossless.getvalue())
    return data_uri("jpeg", jpeg.getvalue())


def data_uri(kind: str, data: bytes) -> str:
    """The bytes of an image as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    made.filters["filename"] = _filename
    return made


def _shown(value: object) -> object:
    """Text without control characters; HTML, which came from a template, as it is."""
    return value if isinstance(value, Markup) else formatting.printable(value)


def _filename(name: str) -> Markup:
    """A name that breaks after its separators, never inside its suffix."""
    found = re.fullmatch(r"(.*?)(\.\w{1,5})?", formatting.printable(name), re.DOTALL)
    assert found is not None
    stem = re.sub(r"([/_-])", r"\1<wbr>", str(escape(found[1])))
    suffix = f'<span class="nowrap">{escape(found[2])}</span>' if found[2] else ""
    return Markup(stem + suffix)
