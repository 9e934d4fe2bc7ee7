"""The runs of a sweep: every combination of the values of its axes, each with a readable name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tijepa.config import RunConfig, load_config
from tijepa.config.yaml_io import read_yaml
from tijepa.errors import ConfigError


@dataclass(frozen=True)
class Axis:
    """A setting and the values it takes, as one writes them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. `values` are those of the axes, `overrides` all that is given."""

    name: str
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: RunConfig


def parse_axis(text: str) -> Axis:
    """`optim.lr=1e-3,5e-4`; values are YAML, so that `optim.betas=[0.9, 0.95],[0.9, 0.99]` is two.

    Raises `ConfigError` for what is not of that form, and for a value given twice.
    """
    key, separator, listed = text.partition("=")
    if not separator or not key or not listed.strip():
        raise ConfigError(f"grid '{text}' is not of the form section.key=VALUE,VALUE,...")
    try:
        values = read_yaml(f"[{listed}]")
    except yaml.YAMLError:
        raise ConfigError(f"grid '{text}': {listed!r} is no list of YAML values") from None
    written = tuple(_written(one) for one in values)
    twice = next((one for one in written if written.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"grid '{text}' holds {twice} twice: leave one of them")
    return Axis(key, written)


def cells_of(
    axes: Sequence[Axis],
    *,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """All combinations, the last axis the fastest; every configuration is checked here.

    Raises `ConfigError`, naming the combination where a single one is at fault.
    """
    keys = [axis.key for axis in axes]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(f"grid over {twice} is given twice: list all its values in one `grid`")
    fixed = {text.partition("=")[0] for text in overrides}
    both = next((key for key in keys if key in fixed), None)
    if both is not None:
        raise ConfigError(f"{both} is given and has a grid: leave one of them")
    labels = _labels(keys)
    cells = []
    for chosen in product(*(axis.values for axis in axes)):
        own = [f"{key}={value}" for key, value in zip(keys, chosen, strict=True)]
        name = ",".join(
            f"{label}={_safe(value)}" for label, value in zip(labels, chosen, strict=True)
        )
        try:
            config = load_config(preset, file, [*overrides, *own])
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}" if name else str(error)) from None
        values = {key: read_yaml(value) for key, value in zip(keys, chosen, strict=True)}
        cells.append(Cell(name or "run", values, (*overrides, *own), config))
    names = [cell.name for cell in cells]
    same = next((name for name in names if names.count(name) > 1), None)
    if same is not None:
        raise ConfigError(f"two runs of the grid would both be called {same}: change a value")
    return cells


def _labels(keys: Sequence[str]) -> list[str]:
    """The last part of each key, as much more as tells it from the others."""
    labels = []
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[-size:]) for size in range(1, len(parts) + 1))
        others = [other for other in keys if other != key]
        labels.append(next(e for e in endings if not any(_ends(other, e) for other in others)))
    return labels


def _ends(key: str, ending: str) -> bool:
    return key == ending or key.endswith(f".{ending}")


def _written(value: Any) -> str:
    """One line that an override reads back to `value`: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _safe(value: str) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value).strip("_") or "empty"
