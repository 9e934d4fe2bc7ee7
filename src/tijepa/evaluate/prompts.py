"""Which words stand for a label: templates, or prompts of its own from a YAML file.

templates: ["a photo of a {}.", "a drawing of a {}."]
names: {n02084071: dog}            # optional: what a value is called in the templates
labels: {dog: ["a dog", "a puppy"]}  # instead of templates: all prompts of every label
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tijepa.data.scenes import COLOURS, SHAPES
from tijepa.errors import ConfigError

__all__ = ["Prompts", "default_prompts", "read_prompts"]

_PLACE = "{}"
_PHOTOS = ("a photo of a {}.", "a picture of a {}.", "{}")
_SCENES = {  # as the captions of scenes put it: every object by its colour and shape
    "colour": tuple(f"a {{}} {shape}" for shape in SHAPES),
    "shape": tuple(f"a {colour} {{}}" for colour in COLOURS),
    "size": tuple(f"a {{}} {colour} {shape}" for colour in COLOURS for shape in SHAPES),
}


@dataclass(frozen=True)
class Prompts:
    """Templates with names of values, or the prompts of every label themselves."""

    templates: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, values: Sequence[str]) -> dict[str, list[str]]:
        """The prompts of each label: of `labels` where they are given, else of each value."""
        if self.labels:
            return {label: list(own) for label, own in self.labels.items()}
        return {
            value: [t.replace(_PLACE, self.names.get(value, value)) for t in self.templates]
            for value in values
        }


def default_prompts(column: str, *, scenes: bool) -> Prompts:
    """What is used without a file: the wording of scenes, or of photos."""
    return Prompts(templates=_SCENES[column] if scenes else _PHOTOS)


def read_prompts(path: Path) -> Prompts:
    """Read a YAML file of the form above; `ConfigError` in one line where it has another."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is no YAML: {reason}") from None
    if not isinstance(found, dict) or not found.keys() & {"templates", "labels"}:
        raise ConfigError(f"{path} has neither templates nor labels: give one of them")
    unknown = found.keys() - {"templates", "names", "labels"}
    if unknown:
        key = sorted(map(str, unknown))[0]
        raise ConfigError(f"{path}: '{key}' is unknown; known: templates, names, labels")
    if "labels" in found and len(found) > 1:
        raise ConfigError(f"{path}: labels hold all prompts, so templates and names do nothing")
    if "labels" in found:
        return Prompts(labels=_labels(found["labels"], path))
    templates = _texts(found["templates"], "templates", path)
    for template in templates:
        if _PLACE not in template:
            raise ConfigError(f"{path}: template '{template}' has no {{}} for the label")
    names = found.get("names", {})
    if not isinstance(names, dict):
        raise ConfigError(f"{path}: names is {names!r}; give a mapping from value to name")
    return Prompts(templates=templates, names={str(k): str(v) for k, v in names.items()})


def _labels(found: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{path}: labels is {found!r}; give a mapping from label to prompts")
    return {str(label): _texts(own, f"label '{label}'", path) for label, own in found.items()}


def _texts(found: Any, what: str, path: Path) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, list) or not found or any(not isinstance(t, str) for t in found):
        raise ConfigError(f"{path}: {what} is {found!r}; give a list of one or more strings")
    return tuple(found)
