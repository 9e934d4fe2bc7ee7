"""The YAML of configuration files and overrides.

It differs from the YAML 1.1 of PyYAML in three things that otherwise surprise: `3e-4` is a
number, `2026-01-31` stays text, and a key that is no text or stands twice in one mapping is an
error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import yaml

_FLOAT, _TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "-+.0123456789":
    _RESOLVERS.setdefault(_first, []).append((_FLOAT, re.compile(rf"(?:{_EXPONENT.pattern})$")))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _bad_key(key_node, f"key {key!r} is not text")
            if key in seen:
                raise _bad_key(key_node, f"key '{key}' stands twice in one mapping")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _bad_key(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS


def _inline(dumper: _Dumper, values: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(list, _inline)


def read_yaml(text: str) -> Any:
    """Parse one document. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


def write_yaml(values: Any) -> str:
    """ASCII text that `read_yaml` reads back to equal values, mappings in their own order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


# Dotted keys such as `optim.lr` into nested mappings.


def covers(section: str, key: str) -> bool:
    """Whether `key` is the setting `section` or lies in the section of that name."""
    return key == section or key.startswith(f"{section}.")


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; a value that stands where a mapping belongs is left alone."""
    name, _, rest = key.partition(".")
    if not rest:
        values[name] = value
    elif isinstance(values.setdefault(name, {}), dict):
        put(values[name], rest, value)


def remove(values: dict[str, Any], key: str) -> None:
    """Delete the value of a dotted key, and the mappings that this leaves empty."""
    name, _, rest = key.partition(".")
    if rest:
        remove(values[name], rest)
    if not rest or not values[name]:
        del values[name]
