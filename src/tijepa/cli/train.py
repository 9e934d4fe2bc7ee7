"""`tijepa train`: one run, from a configuration to a report."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tijepa.errors import ConfigError

if TYPE_CHECKING:
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.config import RunConfig


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
    "--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME-TIME]"
)
@click.option("--resume", is_flag=True, help="Continue the run in --out where it stopped.")
@click.option(
    "--dry-run", is_flag=True, help="Print the configuration, size and cost; write nothing."
)
def train(
    overrides: tuple[str, ...],
    preset: str | None,
    file: Path | None,
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
    settings = list(overrides)
    if data is not None:
        settings.append(f"data.source={json.dumps(data, ensure_ascii=False)}")
    if resume:
        config, run_dir = _stored(out, preset, file, settings)
    else:
        from tijepa.config import load_config

        config = load_config(preset, file, settings)
        check_data_named(preset, config)
        run_dir = _new_run_dir(out, preset, file)
    if not dry_run:
        click.echo(
            f"{'resumes' if resume else 'trains':<10}on {config.data.source}, into {run_dir}"
        )
    from tijepa.cli.terminal import ConsoleReporter

    reporter = ConsoleReporter()
    if not resume:
        from tijepa.training.choose import configured

        config = configured(preset, file, settings, reporter)
    if dry_run:
        from tijepa.training.dry_run import dry_run as foresee

        click.echo(foresee(config).to_text())
    else:
        _run(config, run_dir, reporter, resume=resume)


def _run(
    config: RunConfig, run_dir: Path, reporter: ConsoleReporter, *, resume: bool = False
) -> None:
    from tijepa.cli.display import Display
    from tijepa.training import train as run_training

    shown = [Display(reporter.console)]
    run_training(config, run_dir, resume=resume, reporter=reporter, callbacks=shown)


def check_data_named(preset: str | None, config: RunConfig) -> None:
    """Refuse to train a preset for data of one's own on the drawn scenes because none are named."""
    if preset not in (None, "scenes") and "source" not in config.data.model_fields_set:
        raise ConfigError(
            f"preset {preset} is for data of your own: name them with --data FOLDER, or the drawn"
            " scenes with --data scenes"
        )


def _new_run_dir(out: Path | None, preset: str | None, file: Path | None) -> Path:
    if out is None:
        stem = file.stem if file else preset or "train"
        return Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"--out {out} is not empty: add --resume to continue that run, or name another --out"
        )
    return out


def _stored(
    out: Path | None, preset: str | None, file: Path | None, settings: list[str]
) -> tuple[RunConfig, Path]:
    """The configuration of the run in `out`, which nothing given may contradict."""
    from tijepa.config import resumed_config

    if out is None:
        raise ConfigError("--resume needs --out RUN, the folder of the run to continue")
    return resumed_config(out, preset, file, settings), out


# `tijepa demo`: the main job on embedded data, start to report.


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
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


# `tijepa presets`: the configurations that come with the package.


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
