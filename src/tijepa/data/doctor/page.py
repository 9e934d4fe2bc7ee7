"""doctor.html: the whole report on one page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterable

from tijepa.data.doctor.findings import Example
from tijepa.data.doctor.kinds import DUPLICATES, kind_of
from tijepa.data.doctor.pieces import escape, plural, table
from tijepa.data.doctor.report import GroupExample, Report
from tijepa.data.doctor.statistics import caption_section, label_section, picture_section
from tijepa.data.doctor.style import STYLE

__all__ = ["page"]

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
        picture_section(facts["pictures"]),
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
        ("Pictures alone", counts["images_only"]),
        ("Texts alone", counts["texts_only"]),
        ("Set aside", counts["set_aside"]),
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
    head = ("Split", "Items", "Pairs", "Pictures alone", "Texts alone", "Captions")
    return "<h2>Splits</h2>" + table(head, rows)


def _findings(report: Report) -> str:
    found = report.facts["findings"]
    if not found:
        return "<h2>Findings</h2><p>None: every picture decodes and every caption is text.</p>"
    order = sorted(found, key=lambda kind: (not found[kind]["set_aside"], -found[kind]["items"]))
    cards = []
    for slug in order:
        entry = found[slug]
        number = plural(entry["items"], "item", "items")
        if entry["set_aside"]:
            count = f'<span class="count bad">{number} set aside</span>'
        elif slug.startswith("caption-"):
            dropped = plural(entry["findings"], "caption", "captions")
            count = f'<span class="count warn">{dropped} dropped</span>'
        else:
            count = f'<span class="count">{number}, kept</span>'
        examples = "".join(map(_example, report.examples.get(slug, ())))
        cards.append(_card(slug, count, f'<ul class="examples">{examples}</ul>'))
    about = (
        '<p class="soft">The complete list of what is not used is quarantine.jsonl; nothing was'
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
        f"{plural(report.facts['pictures_too_plain_to_compare'], 'picture is', 'pictures are')}"
        " too plain to be compared by look.</p>"
    )
    if not cards:
        cards.append("<p>No item and no picture stands twice.</p>")
    return "<h2>Duplicates</h2>" + words + "".join(cards)


def _card(slug: str, count: str, body: str) -> str:
    kind = kind_of(slug)
    return (
        f'<article class="card"><header><h3>{escape(kind.title)}</h3>{count}</header>'
        f'<p class="soft">{escape(kind.meaning)} {escape(kind.remedy)}</p>{body}</article>'
    )


def _example(example: Example) -> str:
    picture = f'<img src="{example.picture}" alt="">' if example.picture else ""
    caption = f"<q>{escape(example.caption)}</q>" if example.caption else ""
    where = f'<div class="soft">{escape(example.reference)}</div>' if example.reference else ""
    name = escape(example.item)
    return f"<li>{picture}<b>{name}</b><div>{escape(example.reason)}</div>{caption}{where}</li>"


def _group(group: GroupExample) -> str:
    figures = "".join(_figures(group))
    more = group.size - len(group.items)
    rest = f'<div class="soft">and {more:,} more</div>' if more else ""
    return f'<li><div class="side">{figures}</div>{rest}</li>'


def _figures(group: GroupExample) -> Iterable[str]:
    for item, split, picture in zip(group.items, group.splits, group.pictures, strict=True):
        image = f'<img src="{picture}" alt="">' if picture else ""
        yield (
            f"<figure>{image}<figcaption>{escape(item)}<br>{escape(split)}</figcaption></figure>"
        )
