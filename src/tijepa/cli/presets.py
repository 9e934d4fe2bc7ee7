"""`tijepa presets`: the configurations that come with the package."""

from __future__ import annotations

import click

__all__ = ["presets"]


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
