"""The page of a saved model, `README.md`: what it was trained on and how, and what was measured.

Every figure comes from the run's own files; what they do not say is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tijepa.inference.hub.provenance import PROVENANCE, Provenance, shown_verdict
from tijepa.model.saving import ModelCard

__all__ = ["page"]

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
    parts = [
        f"{_HEAD}\n# {name}\n",
        _what(card),
        _use(name),
        _section("Data", _data(card, known)),
        _section("Objective", _objective(card, known)),
        _section("Measured", _measured(known.results)),
        _section("Collapse report", _collapse(known.results)),
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


def _measured(results: Mapping[str, Any]) -> list[str]:
    reported = _part(results, "retrieval")
    if not reported:
        return ["Not measured, or not of this checkpoint."]
    lines = [
        f"Retrieval among {reported.get('num_images')} images and {reported.get('num_texts')} texts"
        f" of the {results.get('split')} split; chance at 1 is"
        f" {_percent(reported.get('chance_at_1'))}.",
        "",
        "| energy | direction | R@1 | R@5 | R@10 | median rank |",
        "|---|---|---|---|---|---|",
    ]
    for form, one in _part(results, "energies").items():
        lines += _rows(_PLAIN.get(form, form), one)
    novel = _part(_part(results, "novel"), "retrieval")
    if novel:
        lines += _rows(f"{_PLAIN.get(str(results.get('form')), results.get('form'))}, novel", novel)
    match = _part(results, "match_probability")
    if match:
        lines += [
            "",
            f"Probability of match on pairs that its fit did not see: expected calibration error"
            f" {_percent(match.get('expected_calibration_error'))}, area under the ROC curve"
            f" {_number(match.get('roc_auc'))}.",
        ]
    return lines


def _rows(name: str, one: Mapping[str, Any]) -> list[str]:
    rows = []
    for direction in ("image_to_text", "text_to_image"):
        found = _part(one, direction)
        recalls = " | ".join(_percent(found.get(f"recall_at_{k}")) for k in (1, 5, 10))
        rank = _number(found.get("median_rank"))
        rows.append(f"| {name} | {_PLAIN[direction]} | {recalls} | {rank} |")
    return rows


def _collapse(results: Mapping[str, Any]) -> list[str]:
    found = _part(results, "collapse")
    if not found:
        return ["Not measured, or not of this checkpoint."]
    health = _part(results, "health")
    verdict, reason = shown_verdict(found, health)
    lines = [f"Verdict: **{verdict}**: {reason}.", ""]
    for modality in ("image", "text"):
        own = _part(found, modality)
        lines.append(
            f"- {modality}: effective rank {_number(own.get('effective_rank'))} of"
            f" {own.get('dimensions')}, std per dimension {_number(own.get('mean_std'))} (smallest"
            f" {_number(own.get('min_std'))})"
        )
    energies = ", ".join(
        f"{name} {_number(found.get(key))}"
        for name, key in (
            ("matched", "matched_energy"),
            ("shuffled", "shuffled_energy"),
            ("gap", "gap"),
        )
    )
    lines.append(f"- energy: {energies}")
    if health:
        lines.append(f"- while training, at its end: {health.get('verdict')}")
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


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else "unknown"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "unknown"
