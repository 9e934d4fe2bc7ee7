"""The page of a saved model, `README.md`: what it was trained on and how, and what was measured.

Every figure comes from the run's own files; what they do not say is said to be unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from tijepa.errors import CheckpointError
from tijepa.inference.results import Retrieval, RunResults
from tijepa.io.formatting import count, first_line
from tijepa.model.saving import ModelCard, read_json

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
    run = run_of(model)
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


def run_of(model: Path) -> Path | None:
    """The run folder whose model or checkpoint `model` is; None where it belongs to none."""
    model = model.absolute()
    return next((p for p in (model, *model.parents[:2]) if (p / "config.yaml").exists()), None)


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


_HEAD = """---
library_name: tijepa
pipeline_tag: zero-shot-image-classification
tags:
- tijepa
- jepa
- image-text-retrieval
---
"""

_PLAIN = {
    "squared_l2": "squared L2",
    "image_to_text": "image → text",
    "text_to_image": "text → image",
}


def page(name: str, card: ModelCard, known: Provenance) -> str:
    """The whole page, in Markdown, of a model called `name`."""
    results = RunResults.from_json(known.results)
    parts = [
        f"{_HEAD}\n# {name}\n",
        _what(card),
        _use(name),
        _section("Data", _data(card, known)),
        _section("Objective", _objective(card, known)),
        _section("Measured", _measured(results)),
        _section("Collapse report", _collapse(results)),
        _section("Limits", _limits(card, known)),
        _section("Provenance", _provenance(known)),
    ]
    return "\n".join(parts)


def _what(card: ModelCard) -> str:
    predicts = card.arguments.get("predictors") is not None
    how = (
        "It was trained by prediction, without negatives: each modality predicts the embedding of"
        " the other, and how far a prediction falls from what is there is the energy of the pair."
        if predicts
        else "It compares the embeddings of both modalities directly."
    )
    return f"Embeds images and texts in one space. {how}\n"


def _use(name: str) -> str:
    return f"""## Use

```python
import tijepa

model = tijepa.load("{name}")  # this folder, or "owner/{name}" on the hub
images = model.encode_image(["photo.jpg"])
texts = model.encode_text(["two dogs on a beach"])
fit = images @ texts.T  # high = compatible
energy = model.energy(["photo.jpg"], ["two dogs on a beach"])  # low = compatible
```

Safetensors and JSON only: loading runs no code of this folder.
"""


def _section(title: str, lines: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


def _data(card: ModelCard, known: Provenance) -> list[str]:
    source = _part(known.config, "data").get("source")
    lines = [f"- source: {f'`{source}`' if source else 'unknown'}"]
    items = _part(known.environment, "items")
    if items:
        splits = ", ".join(f"{count:,} {split}" for split, count in items.items())
        lines.append(f"- items: {splits}")
    lines.append(
        f"- images of {card.image_size} x {card.image_size} pixels (largest centred square),"
        f" normalised by mean {_triple(card.mean)} and std {_triple(card.std)}"
    )
    lines.append(f"- texts of at most {card.max_tokens} tokens; the rest is cut")
    return lines


def _objective(card: ModelCard, known: Provenance) -> list[str]:
    objective, optim = _part(known.config, "objective"), _part(known.config, "optim")
    lines = [f"- objective: `{card.objective}`"]
    for key in ("energy", "pooled_targets", "pooled_target_norm"):
        if key in objective:
            lines.append(f"- {key.replace('_', ' ')}: `{objective[key]}`")
    tasks = ", ".join(f"{name} {weight:g}" for name, weight in _weights(objective))
    if tasks:
        lines.append(f"- tasks and weights: {tasks}")
    for modality in ("image", "text"):
        own = _part(objective, f"regularize_{modality}")
        if own:
            weight = f", weight {own['weight']:g}" if "weight" in own else ""
            lines.append(f"- regularizer of the {modality} embeddings: `{own.get('name')}`{weight}")
    if {"steps", "batch_size", "lr"} <= optim.keys():
        lines.append(
            f"- {optim['steps']:,} steps of {optim['batch_size']} pairs, learning rate"
            f" {optim['lr']:g}"
        )
    sizes = _part(known.environment, "parameters")
    if sizes:
        lines.append("- trained parameters: " + ", ".join(f"{k} {v:,}" for k, v in sizes.items()))
    return lines


def _weights(objective: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """Tasks whose weight is not 0, cross-modal ones by pooled and token-level energy."""
    for name, value in _part(objective, "tasks").items():
        for kind, weight in value.items() if isinstance(value, dict) else [("", value)]:
            if weight:
                yield f"{name} {kind}".strip(), weight


def _measured(results: RunResults) -> list[str]:
    reported = results.retrieval
    if reported is None:
        return ["Not measured, or not of this checkpoint."]
    lines = [
        f"Retrieval among {count(reported.num_images)} images and {count(reported.num_texts)} texts"
        f" of the {results.split} split; chance at 1 is {_percent(reported.chance_at_1)}.",
        "",
        "| energy | direction | R@1 | R@5 | R@10 | median rank |",
        "|---|---|---|---|---|---|",
    ]
    for form, one in results.energies.items():
        lines += _rows(_PLAIN.get(form, form), one)
    if results.novel is not None:
        form = results.form or "energy"
        lines += _rows(f"{_PLAIN.get(form, form)}, novel", results.novel.retrieval)
    match = results.match_probability
    if match is not None:
        lines += [
            "",
            f"Probability of match on pairs that its fit did not see: expected calibration error"
            f" {_percent(match.expected_calibration_error)}, area under the ROC curve"
            f" {_number(match.roc_auc)}.",
        ]
    return lines


def _rows(name: str, one: Retrieval) -> list[str]:
    rows = []
    for direction, found in one.directions.items():
        recalls = " | ".join(map(_percent, found.recalls))
        rank = _number(found.median_rank)
        rows.append(f"| {name} | {_PLAIN[direction]} | {recalls} | {rank} |")
    return rows


def _collapse(results: RunResults) -> list[str]:
    found = results.collapse
    if found is None:
        return ["Not measured, or not of this checkpoint."]
    verdict, reason = results.judgement
    lines = [f"Verdict: **{verdict}**: {reason}.", ""]
    for modality, own in found.modalities.items():
        lines.append(
            f"- {modality}: effective rank {_number(own.effective_rank)} of"
            f" {_number(own.dimensions)}, std per dimension {_number(own.mean_std)} (smallest"
            f" {_number(own.min_std)})"
        )
    energies = ", ".join(
        f"{name} {_number(energy)}"
        for name, energy in (
            ("matched", found.matched_energy),
            ("shuffled", found.shuffled_energy),
            ("gap", found.gap),
        )
    )
    lines.append(f"- energy: {energies}")
    if results.health is not None:
        lines.append(f"- while training, at its end: {results.health.verdict}")
    return lines


def _limits(card: ModelCard, known: Provenance) -> list[str]:
    source = _part(known.config, "data").get("source")
    where = "synthetic images" if source == "scenes" else "the data above"
    lines = [
        f"- Figures hold for {where}; nothing was measured elsewhere.",
        "- It knows the words and things of its training captions, and their biases.",
        f"- Detail below {card.image_size} x {card.image_size} pixels is lost.",
        "- An expected embedding blurs where a caption fits many images.",
        "- The probability of match was fitted on pairs of the training data; elsewhere it is a"
        " guess.",
    ]
    if source == "scenes":
        lines.append("- It was trained on drawn shapes alone and says nothing of photos.")
    return lines


def _provenance(known: Provenance) -> list[str]:
    environment = known.environment
    if not environment:
        return ["Not recorded."]
    versions = ", ".join(
        f"{name} {environment[name]}"
        for name in ("tijepa", "torch", "python")
        if name in environment
    )
    return [
        f"Trained with {versions}, seed {environment.get('seed')}, on"
        f" {environment.get('processor')} ({environment.get('cpus')} CPUs), started"
        f" {environment.get('started')}.",
        f"The whole configuration and all results: `{PROVENANCE}`.",
    ]


def _part(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = mapping.get(key)
    return found if isinstance(found, dict) else {}


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _percent(value: int | float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "unknown"


def _number(value: int | float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"
