"""One page about one run: `report.html`, a single file that needs no network and runs no script.

Every text that comes from outside (names, captions, reasons, settings) passes through `escape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from tijepa.evaluate.page.cards import gallery_html
from tijepa.evaluate.page.curves import curves
from tijepa.evaluate.page.headline import headline
from tijepa.evaluate.page.health import health
from tijepa.evaluate.page.match import match
from tijepa.evaluate.page.sections import collapse, energies, reproduce, results, set_aside
from tijepa.evaluate.page.shell import whole_page, write_page
from tijepa.evaluate.page.training import training
from tijepa.evaluate.queries import Query
from tijepa.evaluate.run_record import RunRecord, read_run

__all__ = ["write_report"]


def write_report(run_dir: Path, *, energy: Float[Tensor, "i t"], gallery: Sequence[Query]) -> Path:
    """Write `run_dir/report.html` and return its path.

    `energy` holds the energies of some (say 64) held-out pairs, pair k in row k and column k. An
    empty matrix, an empty gallery and any missing file of the run folder are said in words on the
    page. The page appears whole or not at all. Raises `CheckpointError` where the folder is missing
    or cannot be written, `DataError` for pictures that are not uint8 (height, width, 3).
    """
    path = run_dir / "report.html"
    write_page(path, _page(read_run(run_dir), energy, gallery))
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
    return whole_page(f"{run.name} | tijepa run", headline(run), sections)
