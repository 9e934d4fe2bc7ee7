"""One of several sections, told apart by a name: what is registered, each with its own settings.

A choice is pydantic's tagged union. Its members are made of the registry, so that a plug-in's
section is a member like ours, and its schema is built anew when a new name comes up. A setting of
another member is an unknown key; `stray_keys` says of which name it would be a setting.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from tijepa.config.yaml_io import covers
from tijepa.errors import ConfigError
from tijepa.registry import Section, entries, unknown_name


@dataclass(frozen=True)
class OneOf:
    """The annotation of a field that holds one registered part of `kind`.

    `base` has what all members have, `tag` the field that tells them apart; without it `default`
    is meant. `own` are members that no plug-in stands behind, or whose section is not beside them.
    """

    kind: str
    base: type[Section]
    default: str | None
    own: tuple[tuple[str, type[Section]], ...] = ()
    tag: str = "name"

    def members(self) -> dict[str, type[Section]]:
        """The section of each name."""
        found = {name: self._member(name, e.config) for name, e in entries(self.kind).items()}
        return found | dict(self.own)

    def make(self) -> Any:
        """The section of the default name, all its settings at their defaults."""
        assert self.default is not None
        return self.members()[self.default]()

    def chosen(self, value: Any) -> Any:
        """The name in a value: of a mapping, a section, or a name that stands alone."""
        if isinstance(value, Mapping):
            return value.get(self.tag, self.default)
        return value if isinstance(value, str) else getattr(value, self.tag, None)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A tagged union of the members; a name that stands alone has default settings."""
        members = self.members() or {"none": self.base}
        union = core_schema.tagged_union_schema(
            {name: handler.generate_schema(member) for name, member in members.items()},
            discriminator=self.chosen,
        )
        named = core_schema.no_info_before_validator_function(
            lambda value: {self.tag: value} if isinstance(value, str) else value, union
        )
        return named if self.default is not None else core_schema.nullable_schema(named)

    def _member(self, name: str, config: type[Section] | None) -> type[Section]:
        return _made(self.base, self.tag, name, config)


@functools.cache
def _made(base: type[Section], tag: str, name: str, config: type[Section] | None) -> type[Section]:
    bases = (base,) if config is None else (config, base)
    named: Any = {tag: (Literal[name], name)}
    return create_model(f"{base.__name__}_{name}", __base__=bases, **named)


def choices(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, OneOf]]:
    """Every choice below a section by its dotted key, those within members included."""
    for key, field in _fields(section, prefix):
        one_of = _choice(field)
        if one_of is not None:
            yield key, one_of
        for inner in _inside(field):
            yield from choices(inner, f"{key}.")


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a setting below a section can have, whatever is chosen."""
    for key, field in _fields(section, prefix):
        yield key
        for inner in _inside(field):
            yield from keys(inner, f"{key}.")


def stray_keys(section: type[BaseModel], given: Mapping[str, Any]) -> dict[str, str]:
    """Settings among `given` (dotted keys) of another choice than the one made, with the reason."""
    stray: dict[str, str] = {}
    for place, one_of in dict(choices(section)).items():
        tag = f"{place}.{one_of.tag}"
        name = given.get(tag, given.get(place, one_of.default))
        members = one_of.members()
        if not isinstance(name, str) or name not in members:
            continue
        own = set(keys(members[name], f"{place}."))
        others = {key for member in members.values() for key in keys(member, f"{place}.")} - own
        for key in given:
            if any(covers(other, key) for other in others):
                stray.setdefault(key, f"{tag} is '{name}'")
    return stray


def find_names(section: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Look for the names in `given` (dotted keys), also among installed plug-ins.

    Raises `ConfigError`, with the nearest name, for one that nothing registers.
    """
    for place, one_of in list(choices(section)):
        name = given.get(f"{place}.{one_of.tag}", given.get(place))
        if isinstance(name, str) and name not in one_of.members():
            entries(one_of.kind, installed=True)
            if name not in one_of.members():
                raise ConfigError(unknown_name(place, name, one_of.members()))


def _fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field


def _choice(field: Any) -> OneOf | None:
    return next((m for m in field.metadata if isinstance(m, OneOf)), None)


def _inside(field: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold."""
    one_of = _choice(field)
    if one_of is not None:
        return list(dict.fromkeys(one_of.members().values()))
    kind = field.annotation
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
