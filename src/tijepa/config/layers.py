"""From a preset, a file and overrides to one configuration.

A setting that has no effect is an error in the layer that sets it. Where a later layer takes its
effect away it is dropped: `objective.name=clip` on top of a preset replaces the preset's objective
and everything that belongs to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tijepa.config.choices import choices, find_names, keys, stray_keys
from tijepa.config.objectives import fixed_settings
from tijepa.config.run import RunConfig
from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers, leaves, read_yaml, remove
from tijepa.errors import CheckpointError, ConfigError
from tijepa.registry import entries, entry, load_plugins, named_plugins, package_of, unknown_name


def preset_names() -> list[str]:
    """Names of the presets that come with the package, sorted."""
    files = resources.files("tijepa.presets").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_config(
    preset: str | None = None, file: Path | str | None = None, overrides: Iterable[str] = ()
) -> RunConfig:
    """Build the configuration: defaults, then the preset, then the file, then the overrides.

    `overrides` are `section.key=value` strings whose values are YAML. Raises `ConfigError` for an
    unknown preset, an unreadable file, an unknown key (naming the nearest one), a bad value, a
    setting without effect, or a plug-in that cannot be imported. The packages of `plugins`, and
    those that `load_plugins` has kept, are imported first and named in the result.
    """
    layers: list[dict[str, Any]] = []
    if preset is not None:
        layers.append(_read_preset(preset))
    if file is not None:
        layers.append(_read_file(Path(file)))
    last: dict[str, Any] = {}
    for override in overrides:
        _merge(last, _parse_override(override))
    for layer in [*layers, last]:
        _spread_backbone(layer)
    named = [name for layer in [*layers, last] for name in _listed(layer.get("plugins"))]
    load_plugins(named)
    for kind, key in (("evaluation", "evaluations"), ("logger", "log.loggers")):
        for layer in [*layers, last]:
            for name in _listed(dict(leaves(layer)).get(key)):
                entry(kind, name)  # or it says which one was meant
    merged: dict[str, Any] = {}
    for layer in [*layers, last]:
        find_names(RunConfig, dict(leaves(layer)))
        _merge(merged, layer)
        _drop_superseded(merged, layer)
    if named or named_plugins():
        merged["plugins"] = list(dict.fromkeys([*named, *named_plugins()]))
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        given = dict(leaves(merged))
        raise ConfigError(_first_problem(problem, {**given, **fixed_settings(given)})) from None

    used = [name for name in _packages(config) if name not in config.plugins]
    return config.model_copy(update={"plugins": (*config.plugins, *used)}) if used else config


def _spread_backbone(layer: dict[str, Any]) -> None:
    """Put one text-image model into the place of both backbones, where `model.backbone` names it.

    Its pooled tokens are then those that it compares, of whole images, unless the layer says else.
    """
    model = layer.get("model")
    if not isinstance(model, dict) or "backbone" not in model:
        return
    name = model.pop("backbone")
    for modality, wanted in (("image", {"views": "whole"}), ("text", {})):
        tower = model.setdefault(modality, {})
        if not isinstance(tower, dict) or name is None:
            continue
        if tower.get("backbone", name) != name:
            raise ConfigError(
                f"model.backbone is {name!r}, and model.{modality}.backbone"
                f" {tower['backbone']!r}: give one of them"
            )
        given = {"backbone": name, "pool": "projected", **wanted, **tower}
        model[modality] = given


def _packages(config: RunConfig) -> list[str]:
    """The packages that have registered what the configuration names."""
    settings = config.settings()
    names = [("evaluation", name) for name in config.evaluations]
    names += [("logger", name) for name in config.log.loggers]
    for place, one_of in choices(RunConfig):
        name = settings.get(f"{place}.{one_of.tag}", settings.get(place))
        if name in entries(one_of.kind):
            names.append((one_of.kind, name))
    found = [package_of(entry(kind, name)) for kind, name in names]
    return [package for package in dict.fromkeys(found) if package is not None]


def resumed_config(
    out: Path,
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Iterable[str] = (),
) -> RunConfig:
    """The configuration of the run in `out`, which nothing given may contradict but `optim.steps`.

    A run may go on longer, or end sooner, than was said when it began. Raises `CheckpointError`
    where no run is there, `ConfigError` for a setting that differs.
    """
    path = out / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"{out} holds no run (config.yaml): leave out `resume` to start one")
    overrides = list(overrides)
    steps = [one for one in overrides if one.partition("=")[0] == "optim.steps"]
    stored = load_config(file=path, overrides=steps)
    given = path if preset is None and file is None else file
    for key, here, there in load_config(preset, given, overrides).differences(stored):
        raise ConfigError(
            f"{key} is {there} in {path}, not {here}: a resumed run keeps its settings; leave it"
            " out, or start anew with another `out`"
        )
    return stored


def _listed(value: Any) -> list[str]:
    """The names of a setting that is a list of them; its type is judged with all others."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def load_plugins_of(run: Path) -> None:
    """Import the packages that the configuration in a run folder names; nothing where it has none.

    Raises `ConfigError` for a package that cannot be imported.
    """
    path = run / "config.yaml"
    if path.is_file() and "plugins" in path.read_text(encoding="utf-8", errors="replace"):
        load_plugins(_listed(_read_file(path).get("plugins")))


def _read_preset(name: str) -> dict[str, Any]:
    names = preset_names()
    if name not in names:
        raise ConfigError(unknown_name("preset", name, names))
    text = resources.files("tijepa.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = read_yaml(text) or {}
    return loaded


def _read_file(path: Path) -> dict[str, Any]:
    try:
        loaded = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read configuration {path}: {error.strerror}; check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds {loaded!r:.40}; it must hold sections such as `optim:`")
    return loaded


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}; mend that line"
    return " ".join(str(error).split())


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        if text in preset_names():
            raise ConfigError(f"'{text}' is a preset: write `preset={text}`")
        raise ConfigError(
            f"override '{text}' is not of the form section.key=value, e.g. optim.lr=3e-4"
        )
    try:
        nested: Any = read_yaml(value)
    except yaml.YAMLError:
        raise ConfigError(
            f"override '{text}': {value!r} is not a valid YAML value; quote it"
        ) from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result


def _merge(base: dict[str, Any], update: Mapping[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                alone = base.get(key)  # the name of an energy, whose settings follow
                base[key] = {"name": alone} if isinstance(alone, str) else {}
            _merge(base[key], value)
        else:
            base[key] = value


def _drop_superseded(merged: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Remove from `merged` what has no effect any more, except what `layer` itself sets.

    Where the layer names an objective, what that one fixes otherwise has no effect any more, nor
    have settings of the choice that another name took the place of.
    """
    defaults = RunConfig().settings()
    given = dict(leaves(merged))
    own = dict(leaves(layer))
    fixed = fixed_settings(given)
    for key in fixed_settings(own):
        if key in given and key not in own:
            remove(merged, key)
            del given[key]
    for key in stray_keys(RunConfig, {**given, **fixed}):
        if key in given and key not in own:
            remove(merged, key)
            del given[key]
    idle = without_effect(lambda key: fixed.get(key, given.get(key, defaults.get(key))))
    for key in given:
        if key not in own and any(covers(section, key) for section in idle):
            remove(merged, key)


def _first_problem(problem: ErrorDetails, given: Mapping[str, Any]) -> str:
    """One line: the key, the value, the bound."""
    unions = dict(choices(RunConfig))
    key = ""
    for part in map(str, problem["loc"]):
        if key not in unions or part not in unions[key].members():  # the name of a choice
            key = f"{key}.{part}" if key else part
    kind, value, message = problem["type"], problem["input"], problem["msg"]
    if kind == "extra_forbidden":
        for stray, reason in stray_keys(RunConfig, given).items():
            if covers(key, stray):
                return f"{stray} has no effect because {reason}: remove it"
        return f"unknown setting '{key}'{_nearest_setting(key)}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if kind in ("model_type", "model_attributes_type", "union_tag_not_found"):
        inside = ", ".join(_section_keys(key)[:4])
        return f"{key} is {value!r}, but it is a section: set one of its keys, e.g. {inside}"
    if kind in ("missing", "too_long", "tuple_type"):  # not a pair
        field = key.rpartition(".")[0] if kind == "missing" else key
        return f"{field} is {value!r}: must be a pair, e.g. {field}=[{_default(field)}]"
    message = message.replace("Input should", "must").replace("a valid integer", "a whole number")
    return f"{key} is {value!r}: {message}"


def _default(key: str) -> str:
    return ", ".join(str(v) for v in RunConfig().settings()[key])


def _all_keys() -> list[str]:
    """Every key that some choice has, each once, keys of what is chosen by default first."""
    return list(dict.fromkeys(keys(RunConfig)))


def _section_keys(section: str) -> list[str]:
    """The keys directly in a section, "" being the top."""
    depth = section.count(".") + 1 if section else 0
    inside = [key for key in _all_keys() if not section or covers(section, key)]
    return [key for key in inside if key.count(".") == depth]


def _nearest_setting(key: str) -> str:
    """A hint: the key that was probably meant, else the keys of the section it was put in."""
    known = _all_keys()
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close:  # the right leaf under a wrong section, or a misspelt leaf
        leaf = key.rsplit(".", 1)[-1]
        leaf_names = {k.rsplit(".", 1)[-1] for k in known}
        for name in difflib.get_close_matches(leaf, leaf_names, n=1, cutoff=0.75):
            same = [k for k in known if k.rsplit(".", 1)[-1] == name]
            close = difflib.get_close_matches(key, same, n=1, cutoff=0.0)
    if close:
        return f"; did you mean '{close[0]}'?"
    section = key.rpartition(".")[0]
    names = [k.rsplit(".", 1)[-1] for k in _section_keys(section)]
    return f"; {section or 'the top level'} has {', '.join(names)}"
