"""Charts as inline SVG: no script, no library, readable in light and dark.

Colours come from the page's style (classes `s1` to `s8`), so a chart follows the reader's scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from tijepa.io.formatting import count, escape, number, percent
from tijepa.io.page import render

WIDTH, HEIGHT = 440, 236  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 26
LIMIT = 320  # drawn points per series, somewhat fewer than pixels
DOTS = 30  # up to this many points each gets a dot that tells its value
LOG_RATIO = 300.0  # positive values that span more than this are drawn on a logarithmic axis
LEAST_SPAN = 0.1  # of the largest value: an axis that spans less would magnify noise
SAME = 1.2  # curves nowhere further apart than this, in units of the viewBox, hide each other
STROKES = ("", " dashed", " dotted")


@dataclass(frozen=True)
class Series:
    """One line: `steps` ascending, `values` of equal length; values may be not finite."""

    name: str
    steps: Sequence[int | float]
    values: Sequence[int | float]
    dashed: bool = False  # to see a line that runs over another


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with, such as chance."""

    name: str
    value: int | float


@dataclass(frozen=True)
class Thinned:
    """At most LIMIT points; `low` to `high` is the range that each of them stands for."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unfinished: int  # values that were not finite


def thin(series: Series, limit: int = LIMIT) -> Thinned:
    """Group neighbouring points into at most `limit` groups: median, minimum and maximum of each.

    Values that are not finite are left out of their group; a group of nothing else is NaN, which
    breaks the line.
    """
    steps = np.asarray(series.steps, dtype=np.float64)
    values = np.asarray(series.values, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    unfinished = int(np.isnan(values).sum())
    if len(values) <= limit:
        return Thinned(steps, values, values, values, unfinished)
    step_groups, groups = np.array_split(steps, limit), np.array_split(values, limit)
    kept = [group[~np.isnan(group)] for group in groups]
    return Thinned(
        np.array([group[-1] for group in step_groups]),
        np.array([np.median(group) if group.size else np.nan for group in kept]),
        np.array([group.min() if group.size else np.nan for group in kept]),
        np.array([group.max() if group.size else np.nan for group in kept]),
        unfinished,
    )


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    note: str = "",
    unit: str = "number",
    reference: Reference | None = None,
    allow_log: bool = False,
) -> Markup:
    """A `<figure>` with title, legend (name and last value of each) and the lines over steps.

    `unit` is "number" or "percent"; an axis of shares begins at 0 and ends at 100 % at most.
    Series without a finite value appear in the legend alone. A curve that runs on top of another is
    dashed, so that both are seen. A note under the chart says that, what was left out, or that the
    axis is logarithmic.
    """
    show: Callable[[int | float], str] = percent if unit == "percent" else number
    thinned = [thin(one) for one in series]
    axes = _axes(thinned, reference, unit, allow_log)
    notes = [note] if note else []
    if axes is not None and axes[1].log:
        notes.append("Logarithmic axis.")
    unfinished = sum(one.unfinished for one in thinned)
    if unfinished:
        notes.append(
            f"{count(unfinished)} {'value is' if unfinished == 1 else 'values are'} not finite and"
            " not drawn."
        )
    strokes, covered = _strokes(series, thinned, axes)
    legend = [
        {"key": f"s{k % 8 + 1}{stroke}", "name": one.name, "value": _last(one, show)}
        for k, (one, stroke) in enumerate(zip(series, strokes, strict=True))
    ]
    if reference is not None:
        value = show(reference.value)
        legend.append({"key": "reference", "name": reference.name, "value": value})
    drawn = None
    if axes is not None:
        drawn = _lines(title, series, thinned, strokes, covered, axes, reference, show)
    return figure(title, drawn, legend, notes + _told(series, covered))


def figure(
    title: str,
    drawn: Markup | None,
    legend: Sequence[Mapping[str, str]] = (),
    notes: Sequence[str] = (),
    kind: str = "",
) -> Markup:
    """The card of a chart; `legend` holds `key` (its style), `name` and `value` of each line."""
    return render("figure.html", title=title, drawn=drawn, legend=legend, notes=notes, kind=kind)


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to coordinates from `start` to `end`."""

    low: int | float
    high: int | float
    start: int | float
    end: int | float
    log: bool = False

    def at(self, value: int | float) -> float:
        """The coordinate of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * share

    def ticks(self, wanted: int) -> list[float]:
        """Round values, about `wanted`: 1, 2 or 5 times a power of ten."""
        if self.log:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [10.0**power for power in powers][:: max(1, len(powers) // 6)]
        raw = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def _axes(
    thinned: Sequence[Thinned], reference: Reference | None, unit: str, allow_log: bool
) -> tuple[Axis, Axis] | None:
    """Axes of steps and values that hold all finite points; None where there is none."""
    finite = [one for one in thinned if not np.isnan(one.middle).all()]
    if not finite:
        return None
    first = min(float(one.steps[0]) for one in finite)
    last = max(float(one.steps[-1]) for one in finite)
    if 0 < first <= 0.1 * last or first == last:
        first = 0.0
    low = min(float(np.nanmin(one.low)) for one in finite)
    high = max(float(np.nanmax(one.high)) for one in finite)
    if reference is not None and math.isfinite(reference.value):
        low, high = min(low, reference.value), max(high, reference.value)
    log = allow_log and low > 1e-30 and high / low > LOG_RATIO
    if unit == "percent":
        low, high = min(low, 0.0), max(min(1.05 * high, 1.0), high) or 1.0
    elif log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
    else:
        if 0 < low < 0.5 * high:
            low = 0.0  # a baseline of zero where it costs little room
        span = max(high - low, LEAST_SPAN * max(abs(high), abs(low))) or 1.0
        margin = 0.5 * (1.1 * span - (high - low))
        low, high = (low if low == 0 else low - margin), high + margin
    return (
        Axis(first, max(last, first + 1.0), LEFT, WIDTH - RIGHT),
        Axis(low, high, HEIGHT - BOTTOM, TOP, log),
    )


def _strokes(
    series: Sequence[Series], thinned: Sequence[Thinned], axes: tuple[Axis, Axis] | None
) -> tuple[list[str], dict[int, int]]:
    """How each line is drawn so that it hides none before it: dashed over whole, dotted over that.

    Beside it, for each that would hide others, the first of them.
    """
    levels: list[int] = []
    covered: dict[int, int] = {}
    for k, one in enumerate(series):
        level = int(one.dashed)
        below = [j for j in range(k) if axes is not None and _same(thinned[j], thinned[k], axes[1])]
        if below:
            level = max(level, 1 + max(levels[j] for j in below))
            covered[k] = below[0]
        levels.append(min(level, len(STROKES) - 1))
    return [STROKES[level] for level in levels], covered


def _told(series: Sequence[Series], covered: Mapping[int, int]) -> list[str]:
    """A sentence for each line that others run on top of."""
    sentences = []
    for j in dict.fromkeys(covered.values()):
        names = [series[k].name for k, below in covered.items() if below == j]
        last = names.pop()
        who = f"{', '.join(names)} and {last} run" if names else f"{last} runs"
        sentences.append(f"{who} on top of {series[j].name}.")
    return sentences


def _same(one: Thinned, other: Thinned, axis: Axis) -> bool:
    """Whether one line would cover another."""
    if not np.array_equal(one.steps, other.steps) or len(one.steps) < 2:
        return False
    a, b = (np.array([axis.at(value) for value in line.middle]) for line in (one, other))
    apart = np.abs(a - b)
    alike = np.array_equal(np.isnan(a), np.isnan(b)) and not np.isnan(a).all()
    return bool(alike and np.nanmax(apart) < SAME)


def grid(
    x: Axis,
    y: Axis,
    below: Sequence[tuple[float, str]],
    beside: Sequence[tuple[float, str]],
    room: int = RIGHT,
) -> str:
    """Horizontal lines at the values of `beside`, with their labels, and the labels of `below`.

    `room` is what is free on the right for half a label.
    """
    parts = []
    for value, label in beside:
        at = y.at(value)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick end" x="{x.start - 7}" y="{at + 4:.1f}">{label}</text>'
        )
    for value, label in below:
        at = x.at(value)
        anchor = "end" if at > x.end + room - 30 else "middle"
        parts.append(
            f'<text class="tick {anchor}" x="{at:.1f}" y="{y.start + 18:.1f}">{label}</text>'
        )
    return "".join(parts)


def svg(width: int | float, height: int | float, words: str, content: str) -> Markup:
    """The image; `words` are what a screen reader says in its place."""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">'
        f"{content}</svg>"
    )


def rule(x1: int | float, y1: int | float, x2: int | float, y2: int | float) -> str:
    """A dashed line to compare with."""
    return f'<line class="line reference" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _lines(
    title: str,
    series: Sequence[Series],
    thinned: Sequence[Thinned],
    strokes: Sequence[str],
    covered: Mapping[int, int],
    axes: tuple[Axis, Axis],
    reference: Reference | None,
    show: Callable[[int | float], str],
) -> Markup:
    x, y = axes
    values = y.ticks(5)
    named = [100 * value for value in values] if show is percent else values
    after = "\u00a0%" if show is percent else ""
    beside = [(v, tick_label(n, named) + after) for v, n in zip(values, named, strict=True)]
    whole = [step for step in x.ticks(4) if step == round(step)]  # there are no half steps
    parts = [grid(x, y, [(step, short(step)) for step in whole], beside)]
    if reference is not None and math.isfinite(reference.value):
        at = y.at(reference.value)
        parts.append(rule(x.start, at, x.end, at))
    for k, (one, points) in enumerate(zip(series, thinned, strict=True)):
        # dots would hide a dashed line's gaps, and what shows through them
        few = len(points.steps) <= DOTS and k not in covered
        parts.append(_line(one.name, points, axes, f"s{k % 8 + 1}", strokes[k], show, few))
    words = ". ".join([title] + [_in_words(one, show) for one in series])
    return svg(WIDTH, HEIGHT, words, "".join(parts))


def _line(
    name: str,
    points: Thinned,
    axes: tuple[Axis, Axis],
    colour: str,
    stroke: str,
    show: Callable[[int | float], str],
    few: bool,
) -> str:
    """Band, line and, where there are `few`, dots of one series; NaN splits it."""
    parts = []
    for run in _runs(points.middle):
        x = [axes[0].at(step) for step in points.steps[run]]
        middle, low, high = (
            [axes[1].at(value) for value in values[run]]
            for values in (points.middle, points.low, points.high)
        )
        if low != high and len(x) > 1:
            edge = [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]
            parts.append(f'<polygon class="band {colour}" points="{points_of(edge)}"/>')
        if len(x) > 1:
            line = points_of(list(zip(x, middle, strict=True)))
            parts.append(f'<polyline class="line {colour}{stroke}" points="{line}"/>')
        if few or len(x) == 1:
            for k, (cx, cy) in enumerate(zip(x, middle, strict=True)):
                step, value = points.steps[run][k], float(points.middle[run][k])
                words = f"{name}, step {count(step)}: {show(value)}"
                parts.append(dot(cx, cy, 2.6, colour, words))
    return "".join(parts)


def dot(x: float, y: float, radius: float, kind: str, words: str) -> str:
    """A point that tells its values in `words`."""
    return (
        f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escape(words)}</title></circle>"
    )


def _runs(values: np.ndarray) -> list[slice]:
    """Stretches of neighbouring values without NaN."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], np.isnan(values), [True]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def points_of(pairs: Sequence[tuple[float, float]]) -> str:
    """Coordinates for a line."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _finite(one: Series) -> list[tuple[int | float, int | float]]:
    pairs = zip(one.steps, one.values, strict=True)
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def _last(one: Series, show: Callable[[int | float], str]) -> str:
    finite = _finite(one)
    return show(finite[-1][1]) if finite else "none"


def _in_words(one: Series, show: Callable[[int | float], str]) -> str:
    finite = _finite(one)
    if not finite:
        return f"{one.name}: no finite value"
    (first, start), (last, end) = finite[0], finite[-1]
    if len(finite) == 1:
        return f"{one.name}: {show(start)} at step {count(first)}"
    return f"{one.name}: {show(start)} at step {count(first)}, {show(end)} at step {count(last)}"


def tick_label(tick: float, ticks: Sequence[float]) -> str:
    """As many decimals as the distance between ticks needs."""
    if tick == 0:
        return "0"
    if max(abs(t) for t in ticks) < 1e-3 or abs(tick) < 1e-4:
        apart = min((b - a for a, b in pairwise(ticks)), default=abs(tick))
        digits = math.floor(math.log10(abs(tick)) + 1e-9) - math.floor(math.log10(apart) + 1e-9)
        return f"{tick:.{max(digits, 0)}e}".replace("e-0", "e-")
    if abs(tick) >= 1e4:
        return short(tick)
    return f"{tick:.6f}".rstrip("0").rstrip(".")


def short(value: float) -> str:
    """A whole number in a few characters: 400, 12k, 1.5M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:,.0f}"
