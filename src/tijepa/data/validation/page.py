"""doctor.html: the whole report on one page that needs no network and runs no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tijepa.data.validation.findings import DUPLICATES, Example, kind_of
from tijepa.data.validation.report import GroupExample, Report
from tijepa.data.validation.style import STYLE
from tijepa.io.formatting import plural

__all__ = [
    "bars",
    "caption_section",
    "escape",
    "image_section",
    "label_section",
    "page",
    "percent",
    "table",
]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: Report) -> str:
    """The page as HTML text."""
    facts = report.facts
    parts = [_head(report), "<main>"]
    if facts["commands"]:
        parts.append("<h2>What to run next</h2>")
        parts += [
            f"<p>{escape(step['why'])}:</p><pre>{escape(step['command'])}</pre>"
            for step in facts["commands"]
        ]
    parts.append(_splits(report))
    parts.append(_findings(report))
    parts.append(_duplicates(report))
    parts += [
        image_section(facts["images"]),
        caption_section(facts["captions"]),
        label_section(facts["labels"]),
    ]
    parts.append("</main></body></html>\n")
    return "\n".join(part for part in parts if part)


def _head(report: Report) -> str:
    facts, counts = report.facts, report.facts["counts"]
    tiles = [
        ("Items", counts["items"]),
        ("Usable", counts["sound"]),
        ("Pairs", counts["pairs"]),
        ("Images alone", counts["images_only"]),
        ("Texts alone", counts["texts_only"]),
        ("Skipped", counts["rejected"]),
        ("Captions dropped", counts["captions_dropped"]),
    ]
    shown = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{number:,}</dd></div>' for name, number in tiles
    )
    reasons = "; ".join(facts["reasons"]) or "nothing found forbids training on it."
    word = "Fit" if report.fit else "Unfit"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Doctor: {escape(facts['source'])}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(facts['source'])}</h1>"
        f'<p class="soft">{escape(facts["description"])}</p>'
        f'<div class="verdict {word.lower()}"><p><b>{word}</b>: {escape(reasons)}</p></div>'
        f'<dl class="tiles">{shown}</dl></header>'
    )


def _splits(report: Report) -> str:
    rows = [
        (name, *(numbers[key] for key in ("items", "pairs", "images_only", "texts_only")),
         numbers["captions"])
        for name, numbers in report.facts["splits"].items()
    ]  # fmt: skip
    if not rows:
        return ""
    head = ("Split", "Items", "Pairs", "Images alone", "Texts alone", "Captions")
    return "<h2>Splits</h2>" + table(head, rows)


def _findings(report: Report) -> str:
    found = report.facts["findings"]
    if not found:
        return "<h2>Findings</h2><p>None: every image decodes and every caption is text.</p>"
    order = sorted(found, key=lambda kind: (not found[kind]["rejected"], -found[kind]["items"]))
    cards = []
    for slug in order:
        entry = found[slug]
        number = plural(entry["items"], "item", "items")
        if entry["rejected"]:
            count = f'<span class="count bad">{number} skipped</span>'
        elif slug.startswith("caption-"):
            dropped = plural(entry["findings"], "caption", "captions")
            count = f'<span class="count warn">{dropped} dropped</span>'
        else:
            count = f'<span class="count">{number}, kept</span>'
        examples = "".join(map(_example, report.examples.get(slug, ())))
        cards.append(_card(slug, count, f'<ul class="examples">{examples}</ul>'))
    about = (
        '<p class="soft">The complete list of what is not used is rejected.jsonl; nothing was'
        " deleted.</p>"
    )
    return "<h2>Findings</h2>" + about + "".join(cards)


def _duplicates(report: Report) -> str:
    cards = []
    for slug in DUPLICATES:
        entry = report.facts["duplicates"][slug]
        if not entry["groups"]:
            continue
        number = plural(entry["groups"], "group", "groups")
        tone = " warn" if slug.endswith("two-splits") else ""
        count = f'<span class="count{tone}">{number}, {entry["items"]:,} items</span>'
        groups = "".join(map(_group, report.groups.get(slug, ())))
        cards.append(_card(slug, count, f'<ul class="groups">{groups}</ul>'))
    across = report.facts["captions"]["in_two_splits"]
    words = (
        f'<p class="soft">{plural(across, "caption stands", "captions stand")} in two splits. '
        f"{plural(report.facts['images_too_plain_to_compare'], 'image is', 'images are')}"
        " too plain to be compared by look.</p>"
    )
    if not cards:
        cards.append("<p>No item and no image stands twice.</p>")
    return "<h2>Duplicates</h2>" + words + "".join(cards)


def _card(slug: str, count: str, body: str) -> str:
    kind = kind_of(slug)
    return (
        f'<article class="card"><header><h3>{escape(kind.title)}</h3>{count}</header>'
        f'<p class="soft">{escape(kind.meaning)} {escape(kind.remedy)}</p>{body}</article>'
    )


def _example(example: Example) -> str:
    image = f'<img src="{example.image}" alt="">' if example.image else ""
    caption = f"<q>{escape(example.caption)}</q>" if example.caption else ""
    where = f'<div class="soft">{escape(example.reference)}</div>' if example.reference else ""
    name = escape(example.item)
    return f"<li>{image}<b>{name}</b><div>{escape(example.reason)}</div>{caption}{where}</li>"


def _group(group: GroupExample) -> str:
    figures = "".join(_figures(group))
    more = group.size - len(group.items)
    rest = f'<div class="soft">and {more:,} more</div>' if more else ""
    return f'<li><div class="side">{figures}</div>{rest}</li>'


def _figures(group: GroupExample) -> Iterable[str]:
    for item, split, thumb in zip(group.items, group.splits, group.images, strict=True):
        image = f'<img src="{thumb}" alt="">' if thumb else ""
        yield (
            f"<figure>{image}<figcaption>{escape(item)}<br>{escape(split)}</figcaption></figure>"
        )


# The sections of the page that show numbers: images, captions, labels.


def image_section(facts: Mapping[str, Any]) -> str:
    """Sizes, formats and modes; empty where there is no image."""
    if not facts["images"]:
        return ""
    sizes = table(
        ("Most frequent size", "Images"),
        (
            (f"{size['width']} x {size['height']}", size["count"])
            for size in facts["most_frequent_sizes"]
        ),
    )
    return "<h2>Images</h2>" + _two(
        ("Shorter side in pixels", bars(facts["shorter_side"])),
        ("Longer side in pixels", bars(facts["longer_side"])),
        ("Format and mode", bars(facts["formats"]) + bars(facts["modes"])),
        ("Size", sizes),
    )


def caption_section(facts: Mapping[str, Any]) -> str:
    """Lengths and repetitions; empty where there is no caption."""
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


# Small pieces of the page: safe text, numbers, bars, tables.


def escape(text: object) -> str:
    """`text` for HTML: markup is shown, never interpreted; control characters are dropped."""
    kept = "".join(c for c in str(text) if c in "\n\t" or (ord(c) >= 32 and ord(c) != 127))
    return html.escape(kept, quote=True)


def percent(share: int | float) -> str:
    """A fraction as per cent: 74.2 %; with more digits where that would be 0."""
    value = 100 * share
    return f"{value:.{1 if value == 0 or value >= 0.1 else 3}f}\u00a0%"


def bars(counts: Mapping[str, int]) -> str:
    """Horizontal bars, the longest as wide as there is room."""
    largest = max(counts.values(), default=0) or 1
    rows = []
    for name, value in counts.items():
        width = f"{100 * value / largest:.1f}%"
        rows.append(
            f'<dt>{escape(name)}</dt><dd><i style="width:{width}"></i></dd><dd>{value:,}</dd>'
        )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls sideways on a narrow screen; the first cell of a row names it."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(head[0])}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(value)
