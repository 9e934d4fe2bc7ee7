"""What the terminal shows while training: one live line, and a line for each evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.text import Text

from tijepa.cli.tables import or_dash, verdict_style
from tijepa.cli.terminal import BAR, print_line, progress
from tijepa.io.formatting import duration, number, percent
from tijepa.runs.record import value
from tijepa.training.callbacks import Callback, Record

_NO_FIGURES = ("kind", "step", "split", "health")


class Display(Callback):
    """A rich progress bar over steps; where the output is no terminal, a plain line per record."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_start(self, step: int, steps: int) -> None:
        """Show the bar."""
        self._steps, self._start, self._began = steps, step, time.perf_counter()
        status = TextColumn("{task.fields[status]}", markup=False)
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(BAR), status)
        self._progress = progress(self._console, *columns)
        self._task = self._progress.add_task("train", total=steps, completed=step, status="")
        self._progress.start()

    def on_step(self, step: int, record: Record | None) -> None:
        """Move the bar, and show what was read."""
        if record is None:
            self._progress.update(self._task, completed=step)
            return
        status = f"loss {record['loss']:.4f} · {record['pairs_per_second']:.0f} pairs/s"
        self._progress.update(self._task, completed=step, status=status, refresh=True)
        if not self._console.is_terminal:
            per_step = (time.perf_counter() - self._began) / max(1, step - self._start)
            left = duration(per_step * (self._steps - step))
            self._say(f"step {step:>6} of {self._steps}  {status} · {left} left")

    def on_evaluation_start(self, step: int) -> None:
        """Say that the next seconds go into an evaluation."""
        self._progress.update(self._task, status="measuring held-out pairs")

    def on_evaluation(self, step: int, record: Record) -> None:
        """Print one line for an evaluation on held-out pairs, or for whatever figures it has."""
        if "retrieval" not in record:
            found = [
                f"{name} {figure:.4g}" for name, figure in record.items() if name not in _NO_FIGURES
            ]
            self._say(f"step {step:>6}  {', '.join(found)}")
            return
        r, collapse = record["retrieval"], record["collapse"]
        forth, back = r["image_to_text"], r["text_to_image"]
        ranks = [
            or_dash(value(collapse[modality], "effective_rank"), number)
            for modality in ("image", "text")
        ]
        verdict = record["health"]["verdict"]
        line = Text(
            f"step {record['step']:>6}  held-out recall@1 image→text "
            f"{percent(forth['recall_at_1'])}, text→image {percent(back['recall_at_1'])} "
            f"(chance {percent(r['chance_at_1'])})  rank {ranks[0]}/{ranks[1]} of "
            f"{collapse['image']['dimensions']}  "
        )
        self._say(line.append(verdict, style=verdict_style(verdict)))
        self._health(record["health"])

    def on_rollback(self, step: int, to_step: int, rollbacks: int) -> None:
        """Say that the run went back, and move the bar there."""
        self._say(
            f"rolled back from step {step} to the healthy checkpoint of step {to_step}; "
            f"rollback {rollbacks}, with a lower learning rate"
        )
        self._progress.update(self._task, completed=to_step)

    def on_end(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def _say(self, text: str | Text) -> None:
        print_line(self._console, text)

    def _health(self, health: Mapping[str, Any]) -> None:
        """Which part is in trouble and what usually helps; nothing while all is well."""
        if health["verdict"] in ("degrading", "collapsed"):
            self._say(f"             {health['reason']}")
            self._say(f"             what usually helps: {', or '.join(health['advice'])}")
