"""The report's sections: training, results, energies, collapse, items skipped, reproduction."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import Tensor

from tijepa.config.objectives import CLOSED_FORM
from tijepa.config.unused_settings import PREDICTIVE
from tijepa.evaluate.forgetting import forgetting_in_words
from tijepa.evaluate.retrieval import intervals_in_words, retrieval
from tijepa.inference.results import Retrieval
from tijepa.io.formatting import DASH, count, number, percent, plain, plural, rank
from tijepa.io.page import Table
from tijepa.runs.record import RunRecord, part, value
from tijepa.runs.report.curves import DIRECTIONS
from tijepa.runs.report.images import draw_energies


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
        *(
            [_Fact("Length", "one pass over the pairs", "solved, without steps")]
            if objective.get("name") == CLOSED_FORM
            else _length(part(run.config, "optim"), run.config.get("seed"))
        ),
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
    if name == CLOSED_FORM:
        yield _Fact("Objective", plain(name), "regression both ways from second moments")
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


# Each gives what its section shows, or says in a text why there is nothing.

LISTED = 200  # items skipped that are named; the rest is counted


def results(run: RunRecord) -> dict[str, Any] | str:
    """Retrieval by form of the energy, and on the novel split where it was measured."""
    measured, origin = run.best_known("retrieval")
    found = measured.retrieval
    if found is None:
        return run.problems.get("results.json", "results.json holds no retrieval.")
    shown, chosen = measured.forms if measured is run.results else ({"reported": found}, "reported")
    rows = [[plain(form), *_recalls(one)] for form, one in shown.items()]
    states = {k: "chosen" for k, form in enumerate(shown) if form == chosen}
    if measured.closed_form is not None:
        rows.append(["closed form, nothing trained", *_recalls(measured.closed_form)])
    if measured.own_cosine is not None:
        rows.append(["the pretrained model's own cosine", *_recalls(measured.own_cosine)])
    if measured.novel is not None:
        novel = measured.novel.retrieval
        size = count(novel.num_images)
        rows.append([f"{plain(chosen)}, on {size} images of the novel split", *_recalls(novel)])
    states[len(rows)] = "chance"
    rows.append(["chance", *_chance(found)])
    table = Table(
        f"Retrieval by form of the energy, {origin}. Bold: the form reported above.",
        ("Energy", *("R@1", "R@5", "R@10", "median") * 2),
        rows,
        groups=(("", 1), *((title, 4) for _, title in DIRECTIONS)),
        states=states,
    )
    forgotten = forgetting_in_words(measured.forgetting)
    said = (intervals_in_words(found), measured.added_in_words, forgotten)
    return {
        "problem": run.problems.get("results.json"),
        "table": table,
        "said": [f"{one[:1].upper()}{one[1:]}." for one in said if one is not None],
    }


def _recalls(one: Retrieval) -> Iterable[str]:
    for key, _ in DIRECTIONS:
        yield from map(percent, one.directions[key].recalls)
        yield rank(one.directions[key].median_rank)


def _chance(found: Retrieval) -> list[str]:
    """k / images; the median rank has a simple expectation only with one caption per image."""
    paired = found.num_images == found.num_texts
    shares = [percent(min(k * found.chance_at_1, 1.0)) for k in (1, 5, 10)]
    return [*shares, rank((found.num_images + 1) / 2) if paired else DASH] * 2


def energies(energy: Tensor) -> dict[str, Any] | str:
    """The (i, t) matrix of energies as an image with its legend."""
    if energy.numel() == 0:
        return "No energies of held-out pairs were recorded."
    images, texts = energy.shape
    right = None
    if images == texts:
        found = retrieval(energy, torch.arange(images, device=energy.device))
        right = round(found.image_to_text.recall_at_1 * images)
    return {
        "drawn": draw_energies(energy),
        "images": images,
        "texts": texts,
        "right": right,
        "unfinished": int((~torch.isfinite(energy)).sum()),
    }


def collapse(run: RunRecord) -> dict[str, Any] | str:
    """Readings of both modalities, and the energies of matched and shuffled pairs."""
    measured, origin = run.best_known("collapse")
    found = measured.collapse
    if found is None:
        return "Collapse has not been measured yet."
    rows = [
        [
            modality,
            f"{number(one.effective_rank)} of {count(one.dimensions)}",
            number(one.mean_std),
            number(one.min_std),
        ]
        for modality, one in found.modalities.items()
    ]
    head = ("Modality", "effective rank", "mean std", "smallest std")
    pairs = Table(
        "Raw energy of matched and shuffled pairs, means.",
        ("Pairs", "matched", "shuffled", "gap"),
        [["mean", *map(number, (found.matched_energy, found.shuffled_energy, found.gap))]],
    )
    return {"tables": [Table(f"Pooled embeddings, {origin}.", head, rows), pairs]}


def rejected(run: RunRecord) -> dict[str, Any] | str:
    """Broken items and their reasons."""
    problem = run.problems.get("rejected.jsonl")
    if run.rejected is None or (not run.rejected and problem is None):
        missing = problem is None or "not there" in problem
        return "No broken items were recorded." if missing else str(problem)
    total = len(run.rejected)
    about = f"{plural(total, 'item was', 'items were')} broken and not used."
    if total > LISTED:
        about += f" The first {LISTED} are listed; rejected.jsonl has all."
    rows = [
        (str(item.get("item", "?")), str(item.get("reason", "?"))) for item in run.rejected[:LISTED]
    ]
    caption = "Items that could not be used, and why."
    table = Table(caption, ("Item", "Reason"), rows, words=(1,))
    return {"about": about, "table": table, "problem": problem}


def reproduce(run: RunRecord) -> dict[str, Any]:
    """The command, the whole configuration, the environment."""
    command = (run.environment or {}).get("command")
    if isinstance(command, (list, tuple)):
        command = shlex.join(str(one) for one in command)
    about = "The command of this run:"
    if not isinstance(command, str) or not command:
        about = "The command was not recorded; this one trains with the same configuration:"
        command = f"tijepa train --config {shlex.quote(f'runs/{run.name}/config.yaml')}"
    config = environment = None
    if run.config is not None:
        config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    if run.environment is not None:
        rows = [(plain(key), one) for key, one in _flat(run.environment)]
        caption = "Software, machine and data of the run."
        environment = Table(caption, (), rows, words=(1,))
    files = {"config.yaml": run.config, "environment.json": run.environment}
    return {
        "about": about,
        "command": command,
        "config": config,
        "environment": environment,
        "problems": [
            run.problems.get(name, f"{name} is empty.")
            for name, content in files.items()
            if content is None
        ],
    }


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as one list of names and texts."""
    for key, one in mapping.items():
        if isinstance(one, dict):
            yield from _flat(one, f"{prefix}{key}, ")
        elif isinstance(one, (list, tuple)):
            yield f"{prefix}{key}", " ".join(str(item) for item in one)
        else:
            yield f"{prefix}{key}", str(one)
