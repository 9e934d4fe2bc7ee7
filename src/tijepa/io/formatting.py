"""Numbers as people read them, and text that is safe inside HTML."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

DASH = "\N{EN DASH}"  # stands for a number that was not recorded
TIMES = "\u00a0\N{MULTIPLICATION SIGN}"
PLAIN = {"squared_l2": "squared L2", "smooth_l1": "smooth L1"}


# controls but tab and line feed, halves of surrogate pairs, and what turns the writing direction
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """`text` for a terminal or a page: a control character is shown as its escape, not obeyed."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(text))


def escape(text: object) -> str:
    """`text` for HTML: markup is shown, never interpreted; see `printable`."""
    return html.escape(printable(text), quote=True)


def count(value: int | float) -> str:
    """A whole number with thousands separated: 12,000."""
    return f"{value:,.0f}" if math.isfinite(value) else _not_finite(value)


def plural(number: int, one: str, many: str) -> str:
    """1 item, 2,000 items."""
    return f"{number:,} {one if number == 1 else many}"


def number(value: int | float) -> str:
    """Three significant digits: 0.0123, 1.23, 12.3, 1,230, 1.2e-05."""
    if not math.isfinite(value):
        return _not_finite(value)
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        return f"{value:.2g}"
    if size >= 999.5:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(float(f"{size:.2e}")))
    return f"{value:.{max(digits, 0)}f}"


def points(difference: int | float) -> str:
    """A difference of two fractions in points: +3.1, -0.4."""
    return f"{100 * difference:+.1f}" if math.isfinite(difference) else _not_finite(difference)


def percent(share: int | float) -> str:
    """A fraction as per cent with one decimal: 74.2 %; with more digits where that would be 0."""
    if not math.isfinite(share):
        return _not_finite(share)
    value = 100 * share
    digits = 1 if value == 0 or abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}\u00a0%"


def times_chance(share: int | float, chance: int | float) -> str:
    """How often chance fits into a recall: 371 ×; one decimal below 10."""
    if not (math.isfinite(share) and chance > 0):
        return "?"
    ratio = share / chance
    return (f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}") + TIMES


def rank(value: int | float) -> str:
    """A rank, which may lie halfway between two: 1, 2.5, 1,204."""
    if not math.isfinite(value):
        return _not_finite(value)
    return f"{value:,.1f}" if value % 1 else f"{value:,.0f}"


def plain(name: object) -> str:
    """A name from the configuration as words: image_infill → image infill."""
    return PLAIN.get(str(name), str(name).replace("_", " "))


def energy_name(form: object) -> str:
    """A form of energy with its unit: squared L2; calibrated, nats."""
    return f"{plain(form)}, nats" if form == "calibrated" else plain(form)


def score_name(form: object) -> str:
    """What a search by this form of energy ranks by, with its unit: cosine; nats."""
    return "nats" if form == "calibrated" else "cosine"


def values_in_words(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """What some columns say: price 12.5, brand Acme; a dash where they say nothing."""
    found = ((name, values.get(name)) for name in names)
    return ", ".join(f"{name} {DASH if value is None else value}" for name, value in found)


def date(text: str) -> str:
    """An ISO time for reading: 2 January 2025, 03:04 UTC. Another text stays as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {time.tzname()}" if time.tzinfo else ""
    return f"{time.day} {time:%B %Y, %H:%M}{zone}"


def _not_finite(value: int | float) -> str:
    if math.isnan(value):
        return "not a number"
    return "∞" if value > 0 else "\N{MINUS SIGN}∞"


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def without_nan(value: Any) -> Any:
    """Numbers that are not finite become None, at any depth: JSON has no word for them."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def duration(seconds: float) -> str:
    """Rounded to whole seconds: 19 s, 4 min 07 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours and not minutes:
        return f"{rest} s"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
