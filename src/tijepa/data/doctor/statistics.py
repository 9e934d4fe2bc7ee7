"""The sections of the page that show numbers: pictures, captions, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tijepa.data.doctor.pieces import bars, escape, percent, plural, table

__all__ = ["caption_section", "label_section", "picture_section"]


def picture_section(facts: Mapping[str, Any]) -> str:
    """Sizes, formats and modes; empty where there is no picture."""
    if not facts["pictures"]:
        return ""
    sizes = table(
        ("Most frequent size", "Pictures"),
        (
            (f"{size['width']} x {size['height']}", size["count"])
            for size in facts["most_frequent_sizes"]
        ),
    )
    return "<h2>Pictures</h2>" + _two(
        ("Shorter side in pixels", bars(facts["shorter_side"])),
        ("Longer side in pixels", bars(facts["longer_side"])),
        ("Format and mode", bars(facts["formats"]) + bars(facts["modes"])),
        ("Size", sizes),
    )


def caption_section(facts: Mapping[str, Any]) -> str:
    """Lengths, repetitions and languages; empty where there is no caption."""
    if not facts["captions"]:
        return ""
    about = "about " if facts["distinct_estimated"] else ""
    lines = [
        f"{plural(facts['captions'], 'caption', 'captions')}, {about}"
        f"{percent(facts['distinct_share'])} of them distinct."
    ]
    cut = facts["cut"]
    if cut is not None:
        lines.append(
            f"{cut['captions']:,} are longer than {cut['max_tokens']:,} tokens and would be cut"
            f" (counted by {cut['by']})."
        )
    blocks = [
        ("Words of a caption", _lengths(facts["words"])),
        ("Characters of a caption", _lengths(facts["characters"])),
        ("Captions of an item", bars(facts["per_item"])),
        (
            f"Language: a guess by script and stop words from {facts['language_guessed_from']:,}"
            " captions",
            bars(facts["language_guess"], shares=True),
        ),
    ]
    if facts["most_repeated"]:
        times = "Times, at least" if facts["most_repeated_at_least"] else "Times"
        rows = ((entry["caption"], entry["count"]) for entry in facts["most_repeated"])
        blocks.append(("Most repeated captions", table(("Caption", times), rows)))
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return "<h2>Captions</h2>" + text + _two(*blocks)


def label_section(columns: Mapping[str, Mapping[str, int]]) -> str:
    """How evenly the values of label-like columns are spread; empty where there are none."""
    if not columns:
        return ""
    return "<h2>Labels</h2>" + _two(*((name, bars(counts)) for name, counts in columns.items()))


def _lengths(facts: Mapping[str, Any]) -> str:
    histogram = facts["histogram"]
    width = histogram["width"]
    counts = {
        f"{i * width}" if width == 1 else f"{i * width}-{(i + 1) * width - 1}": number
        for i, number in enumerate(histogram["counts"])
    }
    if histogram["above"]:
        counts["more"] = histogram["above"]
    words = (
        f"median {facts['p50']:,}, mean {facts['mean']:.1f}, 95 % up to {facts['p95']:,},"
        f" longest {facts['max']:,}"
    )
    return f'<p class="soft">{words}</p>{bars(counts)}'


def _two(*blocks: tuple[str, str]) -> str:
    cards = "".join(
        f'<div class="card"><h3>{escape(title)}</h3>{body}</div>' for title, body in blocks
    )
    return f'<div class="two">{cards}</div>'
