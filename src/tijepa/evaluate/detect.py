"""The one judgement of collapse: from readings, of a run or of a finished model, to plain words.

`detect` is a fold: what it remembers of each subject (`Track`) and new readings give new memory and
a verdict. `detect_once` is the same without a past, for an evaluation. They know nothing of models
and files.

What a sample can show is taken into account:

- n items cannot have more than n − 1 directions, so ranks are measured against min(d, n − 1);
- below `MIN_PAIRS` held-out pairs the verdict is "unjudged": only numbers that are not finite and
  constant embeddings are beyond doubt there (docs/log.md, 2026-12-01, has the simulation);
- where recall is surely above chance (see `times_chance`) pairs are told apart, so whatever else is
  found is "degrading" and never "collapsed".

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import torch

from tijepa.evaluate.collapse_metrics import CollapseMetrics
from tijepa.inference.results import Finding, Health, Retrieval
from tijepa.io.formatting import count, number, percent, plain

State = Literal["unjudged", "early", "healthy", "degrading", "collapsed"]
LEVELS: tuple[State, ...] = ("healthy", "degrading", "collapsed")

MIN_PAIRS = 40  # models that explain 5 % of the variance look collapsed in 23 % of cases at 20
MIN_RANK = 2.0  # one direction can only put items in an order
MIN_RANK_SHARE = 0.05  # of the directions that n items in d dimensions can have
MIN_SPREAD = 0.01  # of the length of an embedding; rounding in bfloat16 alone reaches 0.003
MIN_GAP_SHARE = 0.01  # of the energy of a constant prediction: ρ = 0.5 % of the variance explained
MIN_TIMES_CHANCE = 5.0  # embeddings that shrink to a point were seen to keep 3.8 (docs/log.md)
LUCK = 1e-3  # how likely chance alone reaches a recall that counts as above it
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
class Basis:
    """What readings rest on: held-out pairs, and a recall that is surely above chance (else 0)."""

    pairs: int | float = math.inf
    times_chance: int | float = 0.0

    @classmethod
    def of(cls, retrieval: Retrieval) -> Basis:
        """Of readings of the images, and their first texts, that were retrieved among."""
        return cls(retrieval.num_images, times_chance(retrieval))


def times_chance(retrieval: Retrieval) -> float:
    """The largest recall at 1, 5 or 10 in multiples of chance that luck does not explain, or 0.

    That is at least five times chance, and reached by chance with a probability below 0.001 (the
    tail of the binomial distribution; the texts of one image count as one query).
    """
    n = retrieval.num_images
    best = 0.0
    for direction in retrieval.directions.values():
        for k, recall in zip((1, 5, 10), direction.recalls, strict=True):
            if k < n and recall * n >= MIN_TIMES_CHANCE * k and _luck(recall, k / n, int(n)) < LUCK:
                best = max(best, recall * n / k)
    return best


def _luck(recall: float, chance: float, n: int) -> float:
    """Probability that at least `recall` of n queries succeed where each does with `chance`."""
    hits = torch.arange(round(recall * n), n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(hits + 1) - torch.lgamma(n - hits + 1)
    return float((ways + hits * math.log(chance) + (n - hits) * math.log1p(-chance)).exp().sum())


@dataclass(frozen=True)
class Track:
    """What is remembered of one subject; plain values that JSON holds."""

    level: int = 0  # 0 healthy, 1 degrading, 2 collapsed
    since: int | None = None  # step of the first reading of this trouble
    established: bool = False  # seen in good order at least once
    recent: Mapping[str, list[float]] = field(default_factory=dict)
    peak: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Trouble:
    level: int = 0
    problem: str = ""
    words: str = ""


def detect(
    tracks: Mapping[str, Track],
    readings: CollapseMetrics,
    step: int,
    timing: Timing,
    basis: Basis | None = None,
) -> tuple[dict[str, Track], Health]:
    """New memory and the verdict on the readings taken after `step` updates."""
    after, findings, waiting = _judged(tracks, readings, step, timing, basis or Basis())
    words = "; ".join(f"{f.reason} (since step {f.since:,})" for f in findings)
    return after, _health(findings, words, waiting, readings, basis or Basis())


def detect_once(readings: CollapseMetrics, basis: Basis) -> tuple[State, str]:
    """Verdict and reason of the readings of a finished model; "unjudged" where there are none."""
    if not readings:
        return "unjudged", "no pooled embedding is trained; the collapse guard judges what is"
    _, findings, _ = _judged({}, readings, 0, Timing(0, 0), basis)
    health = _health(findings, "; ".join(f.reason for f in findings), False, readings, basis)
    assert health.verdict is not None
    state = next(state for state in ("unjudged", *LEVELS) if state == health.verdict)
    return state, health.reason or ""


def _judged(
    tracks: Mapping[str, Track], readings: CollapseMetrics, step: int, timing: Timing, basis: Basis
) -> tuple[dict[str, Track], list[Finding], bool]:
    """Memory, findings with the worst and oldest first, and whether anything is waited for."""
    after: dict[str, Track] = {}
    findings: list[Finding] = []
    waiting = False
    for subject, values in readings.items():
        track = _remember(tracks.get(subject, Track()), values, step, timing)
        here, margin = _worst(subject, values, track, 1.0), _worst(subject, values, track, MARGIN)
        track = replace(track, established=track.established or margin.level == 0)
        beyond_doubt = here.level == 2 and here.problem in ("constant", "not_finite")
        if not _due(here, track, step, timing) or (basis.pairs < MIN_PAIRS and not beyond_doubt):
            waiting = waiting or here.level > 0
            after[subject] = replace(track, level=0, since=None)
            continue
        level = max(here.level, min(track.level, margin.level))
        trouble = here if here.level == level else margin
        words = trouble.words
        if level == 2 and basis.times_chance and not _recall_is_silent_on(subject, trouble):
            level = 1
            words += f", yet recall is {number(basis.times_chance)} times chance"
        since = None if level == 0 else step if track.since is None else track.since
        after[subject] = replace(track, level=level, since=since)
        if level and since is not None:
            findings.append(Finding(subject, LEVELS[level], trouble.problem, since, words))
    findings.sort(key=lambda finding: (-LEVELS.index(finding.verdict), finding.since))
    return after, findings, waiting


def _recall_is_silent_on(subject: str, trouble: _Trouble) -> bool:
    """What is fused takes no part in retrieval; a number that is not finite is always wrong."""
    return subject.startswith("fused") or trouble.problem == "not_finite"


def _health(
    findings: Sequence[Finding], words: str, waiting: bool, readings: CollapseMetrics, basis: Basis
) -> Health:
    """The verdict, and one sentence without its full stop."""
    if findings:
        return Health(verdict=findings[0].verdict, reason=words, findings=tuple(findings))
    if basis.pairs < MIN_PAIRS:
        return Health(
            verdict="unjudged",
            reason=f"too few pairs to judge: {count(basis.pairs)} held-out pairs, where at least"
            f" {MIN_PAIRS} are needed",
        )
    if waiting:
        return Health(
            verdict="early",
            reason="too early to judge: the model does not tell pairs apart or spread items yet",
        )
    ranks = [
        f"{number(values['rank'])} of {count(values['available'])} possible directions ({name}s)"
        for name, values in readings.items()
        if name in ("image", "text")
    ]
    use = f"embeddings use {' and '.join(ranks)}" if ranks else "embeddings use many directions"
    depend = any("gap" in values for values in readings.values())
    return Health(
        verdict="healthy", reason=f"{use}, and predictions depend on their input" if depend else use
    )


def _due(here: _Trouble, track: Track, step: int, timing: Timing) -> bool:
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
    name = subject_in_words(subject)
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


def subject_in_words(subject: str) -> str:
    """`subject` as words with a plural: image embeddings, predictions of texts from images."""
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


def rank_bound(available: int | float) -> float:
    """The effective rank below which embeddings count as collapsed: 5 % of what is possible.

    At least two, because one direction can only put items in an order, but never more than half of
    what is possible. A model that learned without regularizer was seen to sink to 2.7 of 64 while
    its loss looked well.
    """
    return min(max(MIN_RANK, MIN_RANK_SHARE * available), available / 2)


def _no_gap(name: str, values: Mapping[str, float], track: Track, margin: float) -> _Trouble:
    """A gap that was clear once, and is large but uncertain now, is at worst a decay."""
    gap, certainty = values["gap"], values["certainty"]
    near = gap < NEAR * MIN_GAP_SHARE * margin
    uncertain = certainty < CERTAINTY * margin
    words = (
        f"{name} hardly depend on their input: right partners are nearer than wrong ones by"
        f" {percent(gap)} of the energy of a constant guess, with an error of"
        f" {percent(gap / certainty)}"
        if certainty > 0
        else f"{name} do not depend on their input: right partners are no nearer than wrong ones"
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
        words = f"{name} depend less and less on their input: right partners are nearer than wrong"
        words += f" ones by {percent(now)} of the energy of a constant guess, once {percent(peak)}"
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
