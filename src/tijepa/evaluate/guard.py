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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

from tijepa.evaluate.collapse import MIN_GAP_SHARE, MIN_SPREAD, rank_bound
from tijepa.evaluate.formatting import number, percent, plain
from tijepa.evaluate.vitals import Vitals

__all__ = ["Finding", "Timing", "Track", "Verdict", "judge"]

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
    tracks: Mapping[str, Track], readings: Vitals, step: int, timing: Timing
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
