"""Runs from configuration to report: `tijepa train`, `demo`, and `sweep` for a grid of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tijepa.cli.options import AT_LEAST_ONE, FOLDER, PATH, option, settings_options
from tijepa.errors import ConfigError

if TYPE_CHECKING:
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.config import RunConfig


@click.command()
@settings_options
@option("--out", type=PATH, help="Run folder.  [default: runs/NAME-TIME]")
@option("--resume", is_flag=True, help="Continue the run in --out where it stopped.")
@option("--dry-run", is_flag=True, help="Print the configuration, size and cost; write nothing.")
def train(
    overrides: tuple[str, ...],
    preset: str | None,
    config: Path | None,
    data: str | None,
    out: Path | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train a model; settings are given as optim.lr=3e-4.

    \b
    tijepa train --data photos --out runs/photos
    tijepa train --preset scenes optim.steps=300

    With data of your own and no preset the run is chosen by how many pairs there
    are and what is installed; it says what it chose, why and what it costs.
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.config import load_config, resumed_config

    settings = _settings(overrides, data)
    if resume:
        if out is None:
            raise ConfigError("--resume needs --out RUN, the folder of the run to continue")
        resolved, run_dir = resumed_config(out, preset, config, settings), out
    else:
        resolved = load_config(preset, config, settings)
        _check_data_named(preset, resolved)
        run_dir = _new_run_dir(out, preset, config)
    if not dry_run:
        verb = "resumes" if resume else "trains"
        click.echo(f"{verb:<10}on {resolved.data.source}, into {run_dir}")
    reporter = ConsoleReporter()
    if not resume:
        from tijepa.training.choose import configured

        resolved = configured(preset, config, settings, reporter)
    if dry_run:
        from tijepa.training.dry_run import dry_run as foresee

        click.echo(foresee(resolved).to_text())
    else:
        _run(resolved, run_dir, reporter, resume=resume)


def _settings(overrides: Sequence[str], data: str | None) -> list[str]:
    given = [] if data is None else [f"data.source={json.dumps(data, ensure_ascii=False)}"]
    return [*overrides, *given]


def _run(
    config: RunConfig, run_dir: Path, reporter: ConsoleReporter, *, resume: bool = False
) -> None:
    from tijepa.cli.display import Display
    from tijepa.training import train as run_training

    shown = [Display(reporter.console)]
    run_training(config, run_dir, resume=resume, reporter=reporter, callbacks=shown)


def _check_data_named(preset: str | None, config: RunConfig) -> None:
    """Refuse to train a preset for data of one's own on the drawn scenes because none are named."""
    if preset not in (None, "scenes") and "source" not in config.data.model_fields_set:
        raise ConfigError(
            f"preset {preset} is for data of your own: name them with --data FOLDER, or the drawn"
            " scenes with --data scenes"
        )


def _new_run_dir(out: Path | None, preset: str | None, config: Path | None) -> Path:
    if out is None:
        stem = config.stem if config else preset or "train"
        return Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"--out {out} is not empty: add --resume to continue that run, or name another --out"
        )
    return out


@click.command()
@option(
    "--out",
    type=PATH,
    default=Path("runs/demo"),
    show_default=True,
    help="Run folder; an earlier run there is replaced.",
)
def demo(out: Path) -> None:
    """Train on the embedded scenes and show what was learned.

    Needs no data and no network, and takes minutes on two CPU cores. It is the
    same as: tijepa train --preset scenes
    """
    from tijepa.config import load_config

    config = load_config(preset="scenes")
    _remove_earlier_run(out)
    click.echo(f"trains    on the embedded scenes, into {out}")
    from tijepa.cli.terminal import ConsoleReporter

    _run(config, out, ConsoleReporter())


def _remove_earlier_run(out: Path) -> None:
    """Delete the folder, but only if it is evidently a run."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"--out {out} is not a folder; name another --out")
    if not out.exists() or not any(out.iterdir()):
        return
    is_run = (out / "config.yaml").is_file() and (out / "environment.json").is_file()
    if not is_run:
        raise ConfigError(
            f"--out {out} holds files but no run (config.yaml, environment.json):"
            " empty it yourself or name another --out"
        )
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(f"--out {out} holds the working folder; name another --out")
    shutil.rmtree(out)


@click.command()
@settings_options
@option(
    "--grid",
    multiple=True,
    metavar="KEY=V,V,...",
    help="A setting and its values; several make every combination.",
)
@option("--out", type=FOLDER, required=True, help="Folder of runs.")
@option(
    "--jobs",
    type=AT_LEAST_ONE,
    default=1,
    show_default=True,
    help="Runs at once; they share the cores.",
)
def sweep(
    overrides: tuple[str, ...],
    preset: str | None,
    config: Path | None,
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
    from tijepa.cli.tables import print_sweep
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.training.sweep import cells_of, parse_axis, run_sweep, train_command

    axes, settings = [parse_axis(text) for text in grid], _settings(overrides, data)
    cells = cells_of(axes, preset=preset, file=config, overrides=settings)
    _check_data_named(preset, cells[0].config)
    command = train_command(preset, config, threads=max(1, (os.cpu_count() or 1) // jobs))
    reporter = ConsoleReporter()
    outcomes = run_sweep(cells, out, command, reporter, jobs=jobs)
    print_sweep(reporter.console, outcomes)
    reporter.say(f"written to {out / 'sweep.json'}")
    return 2 if any(one.status == "failed" for one in outcomes) else 0


@click.command()
def presets() -> None:
    """List the presets, each with what it is for."""
    from importlib import resources

    from tijepa.config import preset_names

    names = preset_names()
    width = max(map(len, names), default=0)
    for name in names:
        file = resources.files("tijepa.presets").joinpath(f"{name}.yaml")
        click.echo(f"{name:<{width}}  {_first_comment(file.read_text(encoding='utf-8'))}".rstrip())


def _first_comment(text: str) -> str:
    lines = (line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    return next((line for line in lines if line), "")
