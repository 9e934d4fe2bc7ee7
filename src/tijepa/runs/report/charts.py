"""Line charts as inline SVG: no script, no library, readable in light and dark.

Colours come from the page's style (classes `s1` to `s8`), so a chart follows the reader's scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tijepa.io.formatting import count, escape, number, percent

__all__ = ["Reference", "Series", "line_chart", "thin"]

WIDTH, HEIGHT = 440, 236  # of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 26
LIMIT = 320  # drawn points per series, somewhat fewer than pixels
DOTS = 30  # up to this many points each gets a dot that tells its value
LOG_RATIO = 300.0  # positive values that span more than this are drawn on a logarithmic axis


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
    bounds: tuple[float, float] | None = None,
    allow_log: bool = False,
) -> str:
    """A `<figure>` with title, legend (name and last value of each) and the lines over steps.

    `unit` is "number" or "percent". `bounds` fixes the value axis, which else spans the data.
    Series without a finite value appear in the legend alone. A note under the chart says what was
    left out or drawn on a logarithmic axis.
    """
    show: Callable[[int | float], str] = percent if unit == "percent" else number
    thinned = [thin(one) for one in series]
    axes = _Axes.around(thinned, reference, bounds, allow_log)
    notes = [note] if note else []
    if axes is not None and axes.log:
        notes.append("Logarithmic axis.")
    unfinished = sum(one.unfinished for one in thinned)
    if unfinished:
        notes.append(
            f"{count(unfinished)} {'value is' if unfinished == 1 else 'values are'} not finite and"
            " not drawn."
        )
    legend = "".join(
        f'<li><span class="key s{_colour(k)}{_dashed(one)}"></span>{escape(one.name)} '
        f"<b>{_last(one, show)}</b></li>"
        for k, one in enumerate(series)
    )
    if reference is not None:
        legend += (
            f'<li><span class="key reference"></span>{escape(reference.name)} '
            f"<b>{show(reference.value)}</b></li>"
        )
    image = (
        '<p class="empty">No finite value yet.</p>'
        if axes is None
        else _svg(title, series, thinned, axes, reference, show)
    )
    foot = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<ul class="legend">{legend}</ul>{image}{foot}</figure>'
    )


@dataclass(frozen=True)
class _Axes:
    """Maps steps and values to the viewBox."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    @staticmethod
    def around(
        thinned: Sequence[Thinned],
        reference: Reference | None,
        bounds: tuple[float, float] | None,
        allow_log: bool,
    ) -> _Axes | None:
        """Axes that hold all finite points; None where there is none."""
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
        log = allow_log and bounds is None and low > 1e-30 and high / low > LOG_RATIO
        if bounds is not None:
            low, high = min(low, bounds[0]), max(high, bounds[1])
        elif log:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        else:
            if 0 < low < 0.5 * high:
                low = 0.0  # a baseline of zero where it costs little room
            margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
            low, high = (low if low == 0 else low - margin), high + margin
        return _Axes(first, max(last, first + 1.0), low, high, log)

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def value_ticks(self) -> list[float]:
        if not self.log:
            return _ticks(self.low, self.high, 5)
        powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
        return [10.0**power for power in powers][:: max(1, len(powers) // 6)]


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers between low and high, about `wanted`: 1, 2 or 5 times a power of ten."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    start, stop = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(start, stop + 1)]


def _svg(
    title: str,
    series: Sequence[Series],
    thinned: Sequence[Thinned],
    axes: _Axes,
    reference: Reference | None,
    show: Callable[[int | float], str],
) -> str:
    description = ". ".join(
        [title] + [_in_words(one, show) for one in series]
    )  # what a screen reader says in place of the image
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">',
    ]
    percents = show is percent
    ticks = axes.value_ticks()
    for tick in ticks:
        y = axes.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        label = f"{100 * tick:g}" + "\u00a0%" if percents else _tick_label(tick, ticks)
        parts.append(f'<text class="tick end" x="{LEFT - 7}" y="{y + 4:.1f}">{label}</text>')
    for tick in _ticks(axes.first, axes.last, 4):
        if tick != round(tick):
            continue  # there are no half steps
        x = axes.x(tick)
        anchor = " end" if x > WIDTH - 30 else " middle"
        parts.append(
            f'<text class="tick{anchor}" x="{x:.1f}" y="{HEIGHT - 8}">{_short(tick)}</text>'
        )
    if reference is not None and math.isfinite(reference.value):
        y = axes.y(reference.value)
        parts.append(
            f'<line class="line reference" x1="{LEFT}" x2="{WIDTH - RIGHT}"'
            f' y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    for k, (one, points) in enumerate(zip(series, thinned, strict=True)):
        parts.append(_line(one, points, axes, _colour(k), show))
    return "".join(parts) + "</svg>"


def _line(
    one: Series, points: Thinned, axes: _Axes, colour: int, show: Callable[[int | float], str]
) -> str:
    """Band, line and dots of one series; NaN splits it."""
    parts = []
    few = len(points.steps) <= DOTS
    for run in _runs(points.middle):
        x = [axes.x(step) for step in points.steps[run]]
        middle = [axes.y(value) for value in points.middle[run]]
        low = [axes.y(value) for value in points.low[run]]
        high = [axes.y(value) for value in points.high[run]]
        if low != high and len(x) > 1:
            edge = [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]
            parts.append(f'<polygon class="band s{colour}" points="{_points(edge)}"/>')
        if len(x) > 1:
            line = _points(list(zip(x, middle, strict=True)))
            parts.append(f'<polyline class="line s{colour}{_dashed(one)}" points="{line}"/>')
        if few or len(x) == 1:
            for step, value, cx, cy in zip(
                points.steps[run], points.middle[run], x, middle, strict=True
            ):
                parts.append(
                    f'<circle class="dot s{colour}" cx="{cx:.1f}" cy="{cy:.1f}" r="2.6">'
                    f"<title>{escape(one.name)}, step {count(step)}: {show(float(value))}</title>"
                    "</circle>"
                )
    return "".join(parts)


def _runs(values: np.ndarray) -> list[slice]:
    """Stretches of neighbouring values without NaN."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], np.isnan(values), [True]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _points(pairs: Sequence[tuple[float, float]]) -> str:
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


def _tick_label(tick: float, ticks: Sequence[float]) -> str:
    """As many decimals as the distance between ticks needs."""
    if tick == 0:
        return "0"
    if max(abs(t) for t in ticks) < 1e-3 or abs(tick) < 1e-4:
        apart = min((b - a for a, b in pairwise(ticks)), default=abs(tick))
        digits = math.floor(math.log10(abs(tick)) + 1e-9) - math.floor(math.log10(apart) + 1e-9)
        return f"{tick:.{max(digits, 0)}e}".replace("e-0", "e-")
    if abs(tick) >= 1e4:
        return _short(tick)
    return f"{tick:.6f}".rstrip("0").rstrip(".")


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:,.0f}"


def _dashed(one: Series) -> str:
    return " dashed" if one.dashed else ""


def _colour(position: int) -> int:
    return position % 8 + 1
