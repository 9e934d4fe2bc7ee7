"""The section on what was trained: objective, tasks, data, model, length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tijepa.config.unused_settings import PREDICTIVE
from tijepa.io.formatting import DASH, count, plain
from tijepa.io.page import Table
from tijepa.runs.record import RunRecord, part, value


@dataclass(frozen=True)
class _Fact:
    term: str
    value: str
    detail: str = ""


def training(run: RunRecord) -> dict[str, Any] | str:
    """Facts from config.yaml and, where recorded, environment.json."""
    if run.config is None:
        return run.problems.get("config.yaml", "config.yaml is empty.")
    objective = part(run.config, "objective")
    environment = run.environment or {}
    facts = [
        *_objective(objective),
        _data(run.config, environment),
        *_length(part(run.config, "optim"), run.config.get("seed")),
        *_model(part(run.config, "model")),
        *_parameters(environment),
    ]
    tasks = _tasks(part(objective, "tasks")) if objective.get("name") in PREDICTIVE else None
    return {"facts": facts, "tasks": tasks}


def _objective(objective: Mapping[str, Any]) -> Iterable[_Fact]:
    name = str(objective.get("name", "?"))
    if name not in PREDICTIVE:
        without = "without negatives" if name == "vicreg" else "contrastive"
        yield _Fact("Objective", name, f"{without}, for comparison")
        return
    yield _Fact("Objective", name, "prediction in latent space, without negatives")
    if "energy" in objective:
        yield _Fact("Energy in training", plain(objective["energy"]), "low = compatible")
    targets = {
        level: plain(objective[f"{level}_targets"])
        for level in ("pooled", "token")
        if f"{level}_targets" in objective
    }
    if targets:
        shown = [f"{level}: {kind}" for level, kind in targets.items()]
        norm = objective.get("pooled_target_norm", "none")
        normed = [] if norm == "none" else [f"pooled ones normalised: {norm}"]
        yield _Fact("Targets", shown[0], ", ".join([*shown[1:], *normed]))
    for modality in ("image", "text"):
        regularizer = part(objective, f"regularize_{modality}")
        if regularizer:
            kind = str(regularizer.get("name", "?"))
            weight = regularizer.get("weight")
            detail = f"weight {_show(weight)}" if kind != "none" and weight is not None else ""
            yield _Fact(f"Regularizer of {modality}s", kind, detail)


def _data(config: Mapping[str, Any], environment: Mapping[str, Any]) -> _Fact:
    data = part(config, "data")
    described = environment.get("data")
    shown = described if isinstance(described, str) else str(data.get("source", "?"))
    items = [
        f"{count(size)} {name}"
        for name, size in part(environment, "items").items()
        if isinstance(size, (int, float))
    ]
    return _Fact("Data", shown, ", ".join([*items, f"{_show(data.get('image_size'))} pixels"]))


def _length(optim: Mapping[str, Any], seed: object) -> Iterable[_Fact]:
    steps, batch = value(optim, "steps"), value(optim, "batch_size")
    shown = f"{count(steps)} steps of {count(batch)} pairs"
    yield _Fact("Length", shown, f"{count(steps * batch)} pairs in all")
    yield _Fact("Learning rate", _show(optim.get("lr")), f"seed {_show(seed)}")


def _model(model: Mapping[str, Any]) -> Iterable[_Fact]:
    image, text = part(model, "image"), part(model, "text")
    for name, encoder, detail in (
        ("Image encoder", image, f"patches of {_show(image.get('patch_size'))} pixels"),
        ("Text encoder", text, f"shared space of {_show(model.get('embed_dim'))} dimensions"),
    ):
        backbone = encoder.get("backbone")
        if backbone is not None:
            yield _Fact(name, str(backbone), f"pretrained, {encoder.get('train')}")
        elif encoder:
            size = f"width {_show(encoder.get('width'))}, depth {_show(encoder.get('depth'))}"
            yield _Fact(name, size, detail)


def _parameters(environment: Mapping[str, Any]) -> Iterable[_Fact]:
    """Parameter counts, under the key `parameters`: a number, or a mapping of part to number."""
    found = environment.get("parameters")
    if isinstance(found, (int, float)):
        yield _Fact("Parameters", count(found))
    elif isinstance(found, dict):
        parts = {str(key): one for key, one in found.items() if isinstance(one, (int, float))}
        total = parts.pop("total", sum(parts.values()))
        detail = ", ".join(f"{plain(key)} {count(one)}" for key, one in parts.items())
        yield _Fact("Parameters", count(total), detail)


def _tasks(tasks: Mapping[str, Any]) -> Table | str:
    """A row for each task that is part of the loss."""
    rows = []
    for task, weights in tasks.items():
        levels = weights if isinstance(weights, dict) else {"tokens": weights}
        shown = [levels.get(level) for level in ("pooled", "tokens")]
        if any(isinstance(weight, (int, float)) and weight for weight in shown):
            rows.append([plain(task), *(_show(weight) if weight else DASH for weight in shown)])
    if not rows:
        return "Every task has weight 0."
    return Table("Weights of the tasks in the loss, by level.", ("Task", "pooled", "tokens"), rows)


def _show(setting: object) -> str:
    if isinstance(setting, bool) or not isinstance(setting, (int, float)):
        return "?" if setting is None else str(setting)
    return f"{setting:,}" if isinstance(setting, int) else f"{setting:g}"
