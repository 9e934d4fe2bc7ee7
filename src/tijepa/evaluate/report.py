"""One page about one run: `report.html`, a single file that needs no network and runs no script.

Every text that comes from outside (names, captions, reasons, settings) passes through `escape`, and
a content security policy in the page forbids whatever should slip past it to load or run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from tijepa.errors import CheckpointError
from tijepa.evaluate.formatting import escape
from tijepa.evaluate.page.cards import gallery_html
from tijepa.evaluate.page.curves import curves
from tijepa.evaluate.page.headline import headline
from tijepa.evaluate.page.health import health
from tijepa.evaluate.page.match import match
from tijepa.evaluate.page.sections import collapse, energies, reproduce, results, set_aside
from tijepa.evaluate.page.style import STYLE
from tijepa.evaluate.page.training import training
from tijepa.evaluate.queries import Query
from tijepa.evaluate.run_record import RunRecord, read_run
from tijepa.version import __version__

__all__ = ["write_report"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


def write_report(run_dir: Path, *, energy: Float[Tensor, "i t"], gallery: Sequence[Query]) -> Path:
    """Write `run_dir/report.html` and return its path.

    `energy` holds the energies of some (say 64) held-out pairs, pair k in row k and column k. An
    empty matrix, an empty gallery and any missing file of the run folder are said in words on the
    page. The page appears whole or not at all. Raises `CheckpointError` where the folder is missing
    or cannot be written, `DataError` for pictures that are not uint8 (height, width, 3).
    """
    page = _page(read_run(run_dir), energy, gallery)
    path = run_dir / "report.html"
    _write_whole(path, page.encode("utf-8", errors="replace"))
    return path


def _page(run: RunRecord, energy: Tensor, gallery: Sequence[Query]) -> str:
    sections = (
        ("results", "Results", results(run)),
        ("training", "What was trained", training(run)),
        ("gallery", "Top retrievals", gallery_html(gallery)),
        ("energies", "Energy matrix", energies(energy)),
        ("match", "Probability of match", match(run)),
        ("curves", "While it trained", curves(run)),
        ("health", "Health", health(run)),
        ("collapse", "Collapse readings", collapse(run)),
        ("set-aside", "Items set aside", set_aside(run)),
        ("reproduce", "Reproduce", reproduce(run)),
    )
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>'
        f"{content}</section>"
        for key, title, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(run.name)} | tijepa run</title><style>{STYLE}</style></head><body>\n"
        f'<header>{headline(run)}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>{body}</main>\n"
        f"<footer>Written by tijepa {escape(__version__)}. This file is complete: it loads nothing"
        " and runs nothing.</footer></body></html>\n"
    )


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename, so that a reader sees the old page or the new one."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; free space or make the folder writable"
        ) from None
