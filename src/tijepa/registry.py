"""The parts that a name stands for, whoever wrote them. Imports no torch.

A part is registered by a decorator, with the settings that it has of its own:

    class HuberConfig(Section):
        delta: Positive = 1.0

    @register("energy", "huber", config=HuberConfig)
    def huber(*, delta: float) -> Energy: ...

What comes with the package is registered in the same way, in a file of the folder that `KINDS`
names. Such a file is found by reading it, not by importing it: names and sections are known before
torch is, and the part itself is imported when it is built. A section therefore uses nothing of its
file but what it has from this one (decision 0026).

Parts of others come by importing the package that registers them: a script's own, one named by the
setting `plugins`, or one with an entry point in the group `tijepa.plugins`, which is imported when
a name is not known otherwise.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tijepa.errors import ConfigError

KINDS = {  # where those that come with the package are registered
    "objective": "objectives",
    "energy": "objectives",
    "regularizer": "objectives",
    "encoder": "model",
    "predictor": "model",
    "reader": "data/readers",
    "evaluation": "evaluate",
    "logger": "training",
    "search_backend": "search",
}
GROUP = "tijepa.plugins"

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
InnerFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveFraction = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**53)]  # exact as a float


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


@dataclass(frozen=True)
class Entry:
    """One name of a kind: the module that registers it, its section, its part once imported.

    `needs` is what an objective asks of the model beside encoders: "targets" (EMA target encoders),
    "predictors" (of pooled embeddings, both ways).
    """

    module: str
    config: type[Section] | None = None
    needs: tuple[str, ...] = ()
    part: Any = None


P = TypeVar("P")
_registered: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
_named: list[str] = []  # packages that the user named, in this process
_on_new_name: list[Callable[[str], None]] = []


def register(
    kind: str, name: str, *, config: type[Section] | None = None, needs: tuple[str, ...] = ()
) -> Callable[[P], P]:
    """Make `name` stand for the class or function below, among the parts of `kind`.

    `config` holds the settings that the part has of its own: they are set beside its name, and the
    part is called with them by keyword. docs/extend.md says what a part of each kind is. Raises
    `ConfigError` for an unknown kind and a name that another module has taken.
    """

    def add(chosen: P) -> P:
        module = str(getattr(chosen, "__module__", ""))
        known = _table(kind)
        earlier = known.get(name)
        if earlier is not None and earlier.module != module:
            raise ConfigError(
                f"{kind} '{name}' is registered by {earlier.module} already: {module} must choose"
                " another name"
            )
        shipped = _shipped(kind).get(name)
        if shipped is None:
            _registered[kind][name] = Entry(module, config, needs, chosen)
            for tell in _on_new_name:
                tell(kind)
        else:  # known already, by reading the file
            _registered[kind][name] = replace(shipped, part=chosen)
        return chosen

    _table(kind)
    return add


def entry(kind: str, name: str) -> Entry:
    """What is known of a name; raises `ConfigError`, with the nearest name, for an unknown one."""
    if name not in _table(kind):
        _load_entry_points()
    if name not in _table(kind):
        raise ConfigError(unknown_name(kind.replace("_", " "), name, _table(kind)))
    return _table(kind)[name]


def part(kind: str, name: str) -> Any:
    """The class or function that `name` stands for, imported now if it was not.

    Raises `ConfigError` for an unknown name.
    """
    found = entry(kind, name)
    if found.part is None:
        importlib.import_module(found.module)
        found = _table(kind)[name]
    assert found.part is not None, f"{found.module} does not register {kind} {name}"
    return found.part


def entries(kind: str, *, installed: bool = False) -> dict[str, Entry]:
    """All names of a kind; `installed` looks for plug-ins among installed packages first."""
    if installed:
        _load_entry_points()
    return dict(_table(kind))


def on_new_name(tell: Callable[[str], None]) -> None:
    """Call `tell` with the kind whenever a name comes up that the package does not have."""
    _on_new_name.append(tell)


def load_plugins(packages: Iterable[str], *, keep: bool = False) -> None:
    """Import packages, which register their parts.

    With `keep` every configuration that is made afterwards names them too. Runs whatever a package
    runs when it is imported. Raises `ConfigError` for one that cannot be.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == package
            remedy = "install it, or put its folder on PYTHONPATH" if missing else "mend it"
            reason = "is not installed" if missing else f"cannot be imported ({error})"
            raise ConfigError(f"plug-in package '{package}' {reason}: {remedy}") from None
        if keep and package not in _named:
            _named.append(package)


def named_plugins() -> tuple[str, ...]:
    """The packages that were loaded to `keep`."""
    return tuple(_named)


def package_of(found: Entry) -> str | None:
    """The package to name where a part is needed again; None for ours and for a script's own."""
    package = found.module.partition(".")[0]
    return None if package in ("tijepa", "__main__", "") else package


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The line for a name that is none of `known`, with the one that was probably meant."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{what} '{name}' is unknown{hint} (known: {', '.join(names) or 'none'})"


@functools.cache
def _load_entry_points() -> None:
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # noqa: BLE001  a stranger's package may raise anything
            raise ConfigError(
                f"plug-in '{point.name}' ({point.value}) cannot be imported ({error}): mend it or"
                " uninstall it"
            ) from None


def _table(kind: str) -> Mapping[str, Entry]:
    if kind not in KINDS:
        raise ConfigError(unknown_name("kind of plug-in", kind, KINDS))
    return {**_shipped(kind), **_registered[kind]}


@functools.cache
def _shipped(kind: str) -> dict[str, Entry]:
    folder = Path(__file__).parent / KINDS[kind]
    found: dict[str, Entry] = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "@register(" in text and f'"{kind}"' in text:
            module = ".".join(("tijepa", *KINDS[kind].split("/"), path.stem))
            found |= _read(ast.parse(text, str(path)), kind, module)
    return found


def _read(tree: ast.Module, kind: str, module: str) -> dict[str, Entry]:
    """The names that a file registers, and their sections: compiled alone, without its imports."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found: dict[str, Entry] = {}
    for node in tree.body:
        for call in getattr(node, "decorator_list", []):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "register"):
                continue
            of, name = (ast.literal_eval(argument) for argument in call.args)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if of == kind:
                section = classes[given["config"]] if "config" in given else None
                found[name] = Entry(
                    module,
                    None if section is None else _compiled(section, module),
                    ast.literal_eval(given.get("needs", "()")),
                )
    return found


def _compiled(section: ast.ClassDef, module: str) -> type[Section]:
    names = {**vars(sys.modules[__name__]), "Literal": Literal, "__name__": module}
    exec(compile(ast.Module([section], []), module, "exec", dont_inherit=True), names)
    made: type[Section] = names[section.name]
    return made
