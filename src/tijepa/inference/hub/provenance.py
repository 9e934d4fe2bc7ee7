"""Where a model comes from: its run's configuration, results and environment, without paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from tijepa.errors import CheckpointError
from tijepa.io.formatting import first_line
from tijepa.model.saving import read_json

PROVENANCE = "provenance.json"
FORMAT = 1

# what may be told of the machine; the command, the user's folders and the platform may not
_PUBLIC = ("tijepa", "torch", "python", "processor", "cpus", "started", "seed", "items")
_SIZES = ("vocabulary", "parameters")


@dataclass(frozen=True)
class Provenance:
    """What a run's files say, as plain values; empty where they are not there.

    `results` are those of this very checkpoint, never of another one of its run.
    """

    config: Mapping[str, Any]
    results: Mapping[str, Any]
    environment: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For `provenance.json`."""
        return {"format": FORMAT, **self.__dict__}


def read_provenance(model: Path | None) -> Provenance:
    """Of a saved model's folder, or of the run whose model or checkpoint `model` is.

    Raises `CheckpointError` where a file is damaged.
    """
    if model is None:
        return Provenance({}, {}, {})
    if (model / PROVENANCE).exists():
        return _kept(model / PROVENANCE)
    model = model.absolute()
    run = next((p for p in (model, *model.parents[:2]) if (p / "config.yaml").exists()), None)
    if run is None:
        return Provenance({}, {}, {})
    results = _json(run / "results.json")
    if model.name not in ("model", results.get("checkpoint")):
        results = {}
    environment = _json(run / "environment.json")
    return Provenance(
        config=_without_paths(_yaml(run / "config.yaml")),
        results=results,
        environment={k: environment[k] for k in (*_PUBLIC, *_SIZES) if k in environment},
    )


def _kept(path: Path) -> Provenance:
    found = read_json(path)
    names = ("config", "results", "environment")
    whole = isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in names)
    if not whole or found.get("format") != FORMAT:
        raise CheckpointError(f"{path} is damaged or of a later format; delete it or load anew")
    return Provenance(**{name: found[name] for name in names})


def _json(path: Path) -> Mapping[str, Any]:
    found = read_json(path) if path.exists() else {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it holds no mapping; restore it")
    return found


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path} is damaged ({reason}); restore it") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it holds no mapping; restore it")
    return found


def _without_paths(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Strings that are paths are cut to their last part: `/home/me/photos.lance` → `photos.lance`.

    Names on the hub, such as `owner/name`, keep both parts.
    """
    return {name: _cut(value) for name, value in config.items()}


def _cut(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_paths(value)
    if isinstance(value, str) and ("\\" in value or value.count("/") > 1 or value[:1] in "/.~"):
        return PurePath(value.replace("\\", "/")).name
    return value
