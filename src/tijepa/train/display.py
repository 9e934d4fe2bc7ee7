"""What the terminal shows while training: one live line, and a line for each evaluation."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Display"]


class Display:
    """A rich progress bar over steps; plain lines where the output is no terminal."""

    def __init__(self, console: Console, steps: int, start: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=steps, completed=start, status="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def trained(self, record: dict[str, Any]) -> None:
        """Show the latest training record."""
        status = f"loss {record['loss']:.4f} · {record['pairs_per_second']:.0f} pairs/s"
        self._progress.update(self._task, completed=record["step"], status=status)

    def evaluated(self, record: dict[str, Any]) -> None:
        """Print one line for an evaluation on held-out pairs."""
        r, collapse = record["retrieval"], record["collapse"]
        forth, back = r["image_to_text"], r["text_to_image"]
        self._console.print(
            f"step {record['step']:>6}  held-out recall@1 image→text "
            f"{100 * forth['recall_at_1']:.1f} %, text→image {100 * back['recall_at_1']:.1f} % "
            f"(chance {100 * r['chance_at_1']:.1f} %)  rank {collapse['image']['effective_rank']:.0f}"
            f"/{collapse['text']['effective_rank']:.0f} of {collapse['image']['dimensions']}  "
            f"{collapse['verdict']}",
            highlight=False,
        )
