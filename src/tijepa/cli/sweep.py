"""`tijepa sweep`: a grid of runs on one machine."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
@click.option("--preset", metavar="NAME", help="Start from a preset; see: tijepa presets")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML file on top of the preset.",
)
@click.option("--data", metavar="SOURCE", help="Store or folder of pairs; sets data.source.")
@click.option(
    "--grid",
    "grid",
    multiple=True,
    metavar="KEY=V,V,...",
    help="A setting and its values; several make every combination.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of runs."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs at once; they share the cores.",
)
def sweep(
    overrides: tuple[str, ...],
    preset: str | None,
    file: Path | None,
    data: str | None,
    grid: tuple[str, ...],
    out: Path,
    jobs: int,
) -> int:
    """Train every combination of a grid of settings.

    Each has a folder of its own. The same command goes on where it stopped;
    more values add runs. Exit code 2 where a run failed.

    \b
    tijepa sweep --preset scenes --grid optim.lr=1e-3,5e-4 --grid seed=0,1,2
                 --out sweeps/lr
    """
    import os

    from tijepa.cli.tables import print_sweep
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.cli.train import check_data_named
    from tijepa.training.sweep import cells_of, parse_axis, run_sweep, train_command

    settings = list(overrides)
    if data is not None:
        settings.append(f"data.source={json.dumps(data, ensure_ascii=False)}")
    cells = cells_of(
        [parse_axis(text) for text in grid], preset=preset, file=file, overrides=settings
    )
    check_data_named(preset, cells[0].config)
    command = train_command(preset, file, threads=max(1, (os.cpu_count() or 1) // jobs))
    reporter = ConsoleReporter()
    outcomes = run_sweep(cells, out, command, reporter, jobs=jobs)
    print_sweep(reporter.console, outcomes)
    reporter.say(f"written to {out / 'sweep.json'}")
    return 2 if any(one.status == "failed" for one in outcomes) else 0
