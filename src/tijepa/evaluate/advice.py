"""What usually helps against a finding of collapse, in words, with the setting that does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers
from tijepa.evaluate.detect import subject_in_words
from tijepa.inference.results import Finding

SHOWN = 3
SMALL_BATCH = 64  # EMA alone was seen to collapse below it
MANY_EPOCHS = 100.0  # whoever has seen every pair that often learns nothing from more of it
Hint = tuple[str, str]  # the setting, what to do with it


def advice(
    findings: Sequence[Finding], settings: Mapping[str, Any], epochs: float = 0.0
) -> list[str]:
    """At most three hints for the finding that came first; `settings` by dotted keys, all of them.

    Of findings of one step that of an embedding comes before that of a prediction, which suffers
    from it. A setting that has no effect in this run is never advised, nor more steps after 100
    `epochs`.
    """
    if not findings:
        return []
    idle = without_effect(settings.get)
    first = min(findings, key=lambda finding: (finding.since, finding.problem == "gap"))
    hints = _hints(first, settings, epochs)
    useful = [
        text
        for key, text in hints
        if key in settings and not any(covers(part, key) for part in idle)
    ]
    return useful[:SHOWN]


def _hints(finding: Finding, settings: Mapping[str, Any], epochs: float) -> list[Hint]:
    rate = settings["optim.lr"]
    lower_rate = ("optim.lr", f"learn in smaller steps: optim.lr below {rate:g}")
    modality = finding.subject.partition(" ")[0]
    match finding.problem:
        case "not_finite":
            exact = ("compute.precision", "compute more exactly: compute.precision=float32")
            return [lower_rate, *([exact] if settings["compute.precision"] != "float32" else [])]
        case "drift":
            return [*_momentum(settings), lower_rate]
        case "gap":
            key = f"objective.tasks.{finding.subject}.pooled"
            longer = ("optim.steps", f"train longer: optim.steps above {settings['optim.steps']}")
            what = subject_in_words(finding.subject)
            return [
                (key, f"give {what} more weight: {key} above {settings.get(key, 0):g}"),
                *([longer] if epochs < MANY_EPOCHS else []),
                lower_rate,
                ("data.source", "check that captions belong to their images"),
            ]
        case _ if modality == "fused":
            return [*_batch(settings), *_momentum(settings), lower_rate]
        case _:
            return [
                *_regularizer(modality, settings),
                *_norm(settings),
                *_batch(settings),
                *_momentum(settings),
                lower_rate,
            ]


def _regularizer(modality: str, settings: Mapping[str, Any]) -> Iterable[Hint]:
    section = f"objective.regularize_{modality}"
    weight = settings.get(f"{section}.weight", 0)  # "none" has no weight
    spread = f"spread {modality} embeddings more"
    if weight == 0:
        # the key of the name, since the weight of no regularizer is without effect
        yield f"{section}.name", f"{spread}: {section}={{name: sigreg, weight: 0.05}}"
    else:
        yield f"{section}.weight", f"{spread}: {section}.weight above {weight:g}"


def _norm(settings: Mapping[str, Any]) -> Iterable[Hint]:
    if settings["model.head.norm"] != "batch":
        yield "model.head.norm", "normalise embeddings over the batch: model.head.norm=batch"


def _batch(settings: Mapping[str, Any]) -> Iterable[Hint]:
    size = settings["optim.batch_size"]
    if size < SMALL_BATCH:
        yield "optim.batch_size", f"compare more pairs at once: optim.batch_size above {size}"


def _momentum(settings: Mapping[str, Any]) -> Iterable[Hint]:
    start, end = settings["optim.ema_momentum"]
    key = "optim.ema_momentum"
    yield key, f"let targets follow sooner: {key} below [{start:g}, {end:g}]"
