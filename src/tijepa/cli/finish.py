"""Train, and show the results of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tijepa.config import RunConfig

__all__ = ["run_training"]


def run_training(config: RunConfig, run_dir: Path, *, resume: bool = False) -> None:
    """Train into `run_dir`, then print the summary table and the path of the report."""
    from rich.console import Console

    from tijepa.evaluate.summary import print_summary
    from tijepa.train import train

    console = Console()
    try:
        run_dir = train(config, run_dir, resume=resume, console=console)
    except KeyboardInterrupt:
        if (run_dir / "checkpoints").is_dir():
            click.echo(f"to continue: tijepa train --out {run_dir} --resume", err=True)
        raise
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    print_summary(console, results, run_dir)
    click.echo(f"report: {run_dir / 'report.html'}")
