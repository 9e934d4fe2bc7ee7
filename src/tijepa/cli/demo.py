"""`tijepa demo`: the main job on embedded data, start to report."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from tijepa.errors import ConfigError

__all__ = ["demo"]


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
    from tijepa.train import train

    train(config, out)


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
