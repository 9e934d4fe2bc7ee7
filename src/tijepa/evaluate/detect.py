"""The judgement of the collapse guard: from readings over a run to a verdict in plain words.

`judge` is a fold: what it remembers of each subject (`Track`) and new readings give new memory and
a verdict. It knows nothing of models and files.

Every bound is entered at its value and left at 1.25 times it, so a reading that hovers there does
not make the verdict flap. Trends compare the median of the last three readings with the highest
such median since the warm-up, so one noisy reading makes no trend. A fresh model is judged fairly:

- before the end of the warm-up nothing is judged but numbers that are not finite;
- after it, constant embeddings and a lost rank are collapse, also where there never was one;
- whatever was not seen in good order yet (a direction without a gap: predictions are slow to
  start) is waited for until half of the run, and the verdict is "early".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers
from tijepa.evaluate.collapse import MIN_GAP_SHARE, MIN_SPREAD, rank_bound
from tijepa.evaluate.collapse_metrics import CollapseMetrics
from tijepa.io.formatting import number, percent, plain

__all__ = ["Finding", "Timing", "Track", "Verdict", "advice", "judge"]

State = Literal["early", "healthy", "degrading", "collapsed"]
STATES: tuple[State, ...] = ("healthy", "degrading", "collapsed")

MARGIN = 1.25  # a bound is left at this multiple of the value at which it is entered
NARROW = 0.1  # spread: unit embeddings have (mean cosine of two items) = 1 − spread², here 0.99
NEAR = 2.0  # times the bound of collapse: the neighbourhood of it
CERTAINTY = 2.4  # standard errors of a gap; times MARGIN it is three, which luck gives 1 in 700
HALF = 0.5  # of the highest rank or gap; healthy runs on scenes lost at most a quarter
SHRUNK = 0.1  # of the largest std: an energy of squares is then 100 times less for nothing learned
APART = 0.5  # drift; with equal means and variances it is 1 − correlation
RECENT = 3  # readings in a median


@dataclass(frozen=True)
class Timing:
    """Steps from which things are judged: `settled` ends the warm-up, `half` the waiting."""

    settled: int
    half: int

    @classmethod
    def of(cls, steps: int, warmup: int) -> Timing:
        """The warm-up of the learning rate counts for at least a tenth of the run."""
        return cls(settled=max(warmup, math.ceil(steps / 10)), half=math.ceil(steps / 2))


@dataclass(frozen=True)
class Track:
    """What is remembered of one subject; plain values that JSON holds."""

    level: int = 0  # 0 healthy, 1 degrading, 2 collapsed
    since: int | None = None  # step of the first reading of this trouble
    established: bool = False  # seen in good order at least once
    recent: Mapping[str, list[float]] = field(default_factory=dict)
    peak: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One subject in trouble: which, how bad, what kind, since when, in words."""

    subject: str
    level: int
    problem: str
    since: int
    words: str


@dataclass(frozen=True)
class Verdict:
    """The state of a run at one evaluation; its findings, the worst and oldest first."""

    state: State
    findings: tuple[Finding, ...] = ()

    @property
    def words(self) -> str:
        """One sentence without its full stop."""
        if self.state == "early":
            return "too early to judge: the model does not tell pairs apart or spread items yet"
        if self.state == "healthy":
            return "embeddings use many directions and predictions depend on their input"
        return "; ".join(f"{f.words} (since step {f.since:,})" for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.state,
            "reason": self.words,
            "findings": [
                {
                    "subject": f.subject,
                    "verdict": STATES[f.level],
                    "problem": f.problem,
                    "since": f.since,
                    "reason": f.words,
                }
                for f in self.findings
            ],
        }


@dataclass(frozen=True)
class _Trouble:
    level: int = 0
    problem: str = ""
    words: str = ""


def judge(
    tracks: Mapping[str, Track], readings: CollapseMetrics, step: int, timing: Timing
) -> tuple[dict[str, Track], Verdict]:
    """New memory and the verdict on the readings taken after `step` updates."""
    after: dict[str, Track] = {}
    findings: list[Finding] = []
    waiting = False
    for subject, values in readings.items():
        track = _remember(tracks.get(subject, Track()), values, step, timing)
        here, margin = _worst(subject, values, track, 1.0), _worst(subject, values, track, MARGIN)
        track = replace(track, established=track.established or margin.level == 0)
        if not _judged(here, track, step, timing):
            waiting = waiting or here.level > 0
            after[subject] = replace(track, level=0, since=None)
            continue
        level = max(here.level, min(track.level, margin.level))
        since = None if level == 0 else step if track.since is None else track.since
        after[subject] = replace(track, level=level, since=since)
        if level and since is not None:
            trouble = here if here.level == level else margin
            findings.append(Finding(subject, level, trouble.problem, since, trouble.words))
    findings.sort(key=lambda finding: (-finding.level, finding.since))
    if findings:
        return after, Verdict(STATES[findings[0].level], tuple(findings))
    return after, Verdict("early" if waiting else "healthy")


def _judged(here: _Trouble, track: Track, step: int, timing: Timing) -> bool:
    if here.problem == "not_finite":
        return True
    if step < timing.settled:
        return False
    lost = here.level == 2 and here.problem in ("constant", "rank")
    return track.established or lost or step >= timing.half


def _remember(track: Track, values: Mapping[str, float], step: int, timing: Timing) -> Track:
    """Add the readings that have a trend; peaks count from the end of the warm-up."""
    if step < timing.settled:
        return track
    recent, peak = dict(track.recent), dict(track.peak)
    for name in ("rank", "std", "gap", "drift"):
        if name in values and math.isfinite(values[name]):
            recent[name] = [*recent.get(name, []), values[name]][-RECENT:]
            if len(recent[name]) == RECENT:
                peak[name] = max(peak.get(name, -math.inf), median(recent[name]))
    return replace(track, recent=recent, peak=peak)


def _worst(subject: str, values: Mapping[str, float], track: Track, margin: float) -> _Trouble:
    """The worst trouble with every bound moved by `margin`; of equal ones the first."""
    name = _named(subject)
    if not all(math.isfinite(value) for value in values.values()):
        return _Trouble(2, "not_finite", f"{name} are not all finite")
    if "gap" in values:
        troubles = [_no_gap(name, values, track, margin), _fell("gap", name, track, margin)]
    else:
        troubles = [
            _constant(name, values, margin),
            _few_directions(name, values, margin),
            _fell("rank", name, track, margin),
            _shrunk(name, track, margin),
            _apart(name, values, track, margin),
        ]
    return max(troubles, key=lambda trouble: trouble.level)


def _named(subject: str) -> str:
    """The subject as words with a plural: image embeddings, predictions of texts from images."""
    if subject == "image_to_text":
        return "predictions of texts from images"
    if subject == "text_to_image":
        return "predictions of images from texts"
    return plain(subject) if subject.endswith("targets") else f"{subject} embeddings"


def _constant(name: str, values: Mapping[str, float], margin: float) -> _Trouble:
    spread = values["spread"]
    if spread < MIN_SPREAD * margin:
        return _Trouble(2, "constant", f"{name} are nearly the same for every item")
    if spread < NARROW * margin:
        shown = percent(spread)
        return _Trouble(1, "constant", f"{name} differ by only {shown} of their length")
    return _Trouble()


def _few_directions(name: str, values: Mapping[str, float], margin: float) -> _Trouble:
    available = values["available"]
    bound = rank_bound(available)
    words = f"{name} use {number(values['rank'])} of {available:.0f} possible directions"
    if values["rank"] < bound * margin:
        return _Trouble(2, "rank", words)
    if values["rank"] < min(NEAR * bound, available / 2) * margin:
        return _Trouble(1, "rank", words)
    return _Trouble()


def _no_gap(name: str, values: Mapping[str, float], track: Track, margin: float) -> _Trouble:
    """A gap that was clear once, and is large but uncertain now, is at worst a decay."""
    gap, certainty = values["gap"], values["certainty"]
    near = gap < NEAR * MIN_GAP_SHARE * margin
    uncertain = certainty < CERTAINTY * margin
    words = (
        f"{name} hardly depend on their input (gap {percent(gap)} of the marginal energy,"
        f" {certainty:.1f} standard errors)"
    )
    if gap < MIN_GAP_SHARE * margin or (uncertain and (near or not track.established)):
        return _Trouble(2, "gap", words)
    return _Trouble(1, "gap", words) if near or uncertain else _Trouble()


def _fell(reading: str, name: str, track: Track, margin: float) -> _Trouble:
    recent, peak = track.recent.get(reading, []), track.peak.get(reading)
    if peak is None or not track.established or median(recent) >= HALF * margin * peak:
        return _Trouble()
    now = median(recent)
    if reading == "rank":
        words = f"{name} use fewer and fewer directions: {number(now)}, once {number(peak)}"
    else:
        words = f"{name} depend less and less on their input: gap {percent(now)}, once "
        words += f"{percent(peak)} of the marginal energy"
    return _Trouble(1, reading, words)


def _shrunk(name: str, track: Track, margin: float) -> _Trouble:
    peak = track.peak.get("std")
    if peak is None or median(track.recent["std"]) >= SHRUNK * margin * peak:
        return _Trouble()
    now = number(median(track.recent["std"]))
    return _Trouble(1, "shrunk", f"{name} shrink: std {now}, once {number(peak)}")


def _apart(name: str, values: Mapping[str, float], track: Track, margin: float) -> _Trouble:
    """Targets that are far from the context encoders and do not come nearer."""
    recent = track.recent.get("drift", [])
    if len(recent) < RECENT or min(recent) < APART / margin or recent[-1] < 0.9 * recent[0]:
        return _Trouble()
    return _Trouble(
        1,
        "drift",
        f"{name} do not follow the context encoders (drift {number(values['drift'])}; 0 is the"
        " same, 1 unrelated)",
    )


# What usually helps against a finding of the collapse guard, in terms of the run's settings.


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
    idle = without_effect(settings.get)
    first = min(findings, key=lambda finding: (finding.since, finding.problem == "gap"))
    hints = _hints(first, settings)
    useful = [
        text
        for key, text in hints
        if key in settings and not any(covers(part, key) for part in idle)
    ]
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
            weight = (key, f"raise {key} above {settings.get(key, 0):g}")
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
    weight = settings.get(f"{section}.weight", 0)  # "none" has no weight
    if weight == 0:
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
