"""doctor.html: the whole report on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tijepa.data.validation.report import DUPLICATES, Report, kind_of
from tijepa.io.formatting import count, plural
from tijepa.io.page import Table, write_page

_SPLITS = {
    "items": "Items",
    "pairs": "Pairs",
    "images_only": "Images alone",
    "texts_only": "Texts alone",
    "captions": "Captions",
}


def write_doctor_page(path: Path, report: Report) -> None:
    """Write the page of `report`; `CheckpointError` where that is not possible."""
    facts, counts = report.facts, report.facts["counts"]
    write_page(
        path,
        "doctor.html",
        title=f"Doctor: {facts['source']}",
        facts=facts,
        fit=report.fit,
        reasons="; ".join(facts["reasons"]) or "nothing found forbids training on it.",
        tiles={
            "Items": counts["items"],
            "Usable": counts["sound"],
            "Pairs": counts["pairs"],
            "Images alone": counts["images_only"],
            "Texts alone": counts["texts_only"],
            "Skipped": counts["rejected"],
            "Captions dropped": counts["captions_dropped"],
        },
        splits=_splits(facts["splits"]),
        findings=list(_findings(report)),
        duplicates=list(_duplicates(report)),
        across=plural(facts["captions"]["in_two_splits"], "caption stands", "captions stand"),
        plain=plural(facts["images_too_plain_to_compare"], "image is", "images are"),
        sizes=_sizes(facts["images"]),
        lengths=_lengths(facts["captions"]),
        repeated=_repeated(facts["captions"]),
    )


def _splits(splits: Mapping[str, Mapping[str, int]]) -> Table | None:
    rows = [[name, *(count(own[key]) for key in _SPLITS)] for name, own in splits.items()]
    return Table("Usable items by split.", ("Split", *_SPLITS.values()), rows) if rows else None


def _findings(report: Report) -> Iterable[dict[str, Any]]:
    """What makes items be skipped first, then the rest by number."""
    found = report.facts["findings"]
    for slug in sorted(
        found, key=lambda kind: (not found[kind]["rejected"], -found[kind]["items"])
    ):
        entry = found[slug]
        tone, words = "", f"{plural(entry['items'], 'item', 'items')}, kept"
        if entry["rejected"]:
            tone, words = "bad", f"{plural(entry['items'], 'item', 'items')} skipped"
        elif slug.startswith("caption-"):
            tone, words = "warn", f"{plural(entry['findings'], 'caption', 'captions')} dropped"
        examples = report.examples.get(slug, ())
        yield {"kind": kind_of(slug), "tone": tone, "count": words, "examples": examples}


def _duplicates(report: Report) -> Iterable[dict[str, Any]]:
    for slug in DUPLICATES:
        entry = report.facts["duplicates"][slug]
        if entry["groups"]:
            yield {
                "kind": kind_of(slug),
                "tone": "warn" if slug.endswith("two-splits") else "",
                "count": f"{plural(entry['groups'], 'group', 'groups')}, {entry['items']:,} items",
                "groups": report.groups.get(slug, ()),
            }


def _sizes(facts: Mapping[str, Any]) -> Table | None:
    if not facts["images"]:
        return None
    rows = [
        (f"{size['width']} x {size['height']}", count(size["count"]))
        for size in facts["most_frequent_sizes"]
    ]
    return Table("Most frequent sizes in pixels.", ("Size", "Images"), rows)


def _lengths(facts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Histograms of words and characters, with what each bar stands for."""
    found: dict[str, dict[str, int]] = {}
    for unit in ("words", "characters") if facts["captions"] else ():
        histogram = facts[unit]["histogram"]
        width = histogram["width"]
        found[unit] = {
            f"{i * width}" if width == 1 else f"{i * width}-{(i + 1) * width - 1}": number
            for i, number in enumerate(histogram["counts"])
        }
        if histogram["above"]:
            found[unit]["more"] = histogram["above"]
    return found


def _repeated(facts: Mapping[str, Any]) -> Table | None:
    if not facts["captions"] or not facts["most_repeated"]:
        return None
    times = "Times, at least" if facts["most_repeated_at_least"] else "Times"
    rows = [(entry["caption"], count(entry["count"])) for entry in facts["most_repeated"]]
    return Table("Captions that stand more than once.", ("Caption", times), rows)
