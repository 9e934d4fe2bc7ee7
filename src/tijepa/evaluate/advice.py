"""What usually helps against a finding of the collapse guard, in terms of the run's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tijepa.config.effect import without_effect
from tijepa.config.keys import covers
from tijepa.evaluate.guard import Finding

__all__ = ["advice"]

SHOWN = 3
SMALL_BATCH = 64  # EMA alone was seen to collapse below it
Hint = tuple[str, str]  # the setting, what to do with it


def advice(findings: Sequence[Finding], settings: Mapping[str, Any]) -> list[str]:
    """At most three hints for the finding that came first; `settings` by dotted keys, all of them.

    Of findings of one step that of an embedding comes before that of a prediction, which suffers
    from it. A setting that has no effect in this run is never advised.
    """
    if not findings:
        return []
    idle = without_effect(settings.__getitem__)
    first = min(findings, key=lambda finding: (finding.since, finding.problem == "gap"))
    hints = _hints(first, settings)
    useful = [text for key, text in hints if not any(covers(part, key) for part in idle)]
    return useful[:SHOWN]


def _hints(finding: Finding, settings: Mapping[str, Any]) -> list[Hint]:
    lower_rate = ("optim.lr", f"lower optim.lr below {settings['optim.lr']:g}")
    modality = finding.subject.partition(" ")[0]
    match finding.problem:
        case "not_finite":
            precision = ("compute.precision", "set compute.precision=float32")
            return [
                lower_rate,
                *([precision] if settings["compute.precision"] != "float32" else []),
            ]
        case "drift":
            return [*_momentum(settings), lower_rate]
        case "gap":
            key = f"objective.tasks.{finding.subject}.pooled"
            weight = (key, f"raise {key} above {settings[key]:g}")
            captions = ("data.source", "check that captions belong to their images")
            return [weight, lower_rate, captions]
        case _ if modality == "fused":
            return [*_batch(settings), *_momentum(settings), lower_rate]
        case _:
            return [
                *_regularizer(f"objective.regularize_{modality}", settings),
                *_norm(settings),
                *_batch(settings),
                *_momentum(settings),
                lower_rate,
            ]


def _regularizer(section: str, settings: Mapping[str, Any]) -> Iterable[Hint]:
    weight = settings[f"{section}.weight"]
    if settings[f"{section}.name"] == "none" or weight == 0:
        # the key of the name, since the weight of no regularizer is without effect
        yield f"{section}.name", f"set {section}={{name: sigreg, weight: 0.05}}"
    else:
        yield f"{section}.weight", f"raise {section}.weight above {weight:g}"


def _norm(settings: Mapping[str, Any]) -> Iterable[Hint]:
    if settings["model.head.norm"] != "batch":
        yield "model.head.norm", "set model.head.norm=batch"


def _batch(settings: Mapping[str, Any]) -> Iterable[Hint]:
    size = settings["optim.batch_size"]
    if size < SMALL_BATCH:
        yield "optim.batch_size", f"raise optim.batch_size above {size}"


def _momentum(settings: Mapping[str, Any]) -> Iterable[Hint]:
    start, end = settings["optim.ema_momentum"]
    yield "optim.ema_momentum", f"lower optim.ema_momentum below [{start:g}, {end:g}]"
