"""Further sections of the page: results, energies, collapse, items skipped, reproduction."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor

from tijepa.evaluate.retrieval import retrieval
from tijepa.io.formatting import DASH, count, escape, number, percent, plain, rank
from tijepa.runs.record import RunRecord, part, value
from tijepa.runs.report.images import draw_energies
from tijepa.runs.report.shell import DIRECTIONS, paragraph, table, unknown

__all__ = ["collapse", "energies", "rejected", "reproduce", "results"]

LISTED = 200  # items skipped that are named; the rest is counted


def results(run: RunRecord) -> str:
    """Retrieval by form of the energy, and on the novel split where it was measured."""
    found, origin = run.best_known("retrieval")
    if found is None:
        return unknown(run.problems.get("results.json", "results.json holds no retrieval."))
    final = run.results if run.results is not None and "retrieval" in run.results else {}
    forms = {str(form): one for form, one in part(final, "energies").items()}
    chosen = str(final.get("form", ""))
    if chosen not in forms:
        chosen = next((form for form, one in forms.items() if one == found), chosen or "reported")
        forms.setdefault(chosen, found)
    rows = "".join(
        _result_row(plain(form), one, form == chosen)
        for form, one in forms.items()
        if isinstance(one, dict)
    )
    novel = part(part(final, "novel"), "retrieval")
    if novel:
        size = count(value(novel, "num_images"))
        rows += _result_row(f"{plain(chosen)}, on {size} images of the novel split", novel, False)
    about = (
        "R@k is the share of queries whose own partner is among the k of lowest energy, median its"
        " median rank. Ties count against the model, so a constant energy finds nothing."
    )
    groups = "".join(f'<th scope="colgroup" colspan="4">{title}</th>' for _, title in DIRECTIONS)
    columns = (
        '<th scope="col" class="split">R@1</th><th scope="col">R@5</th><th scope="col">R@10</th>'
        '<th scope="col">median</th>'
    ) * 2
    problem = run.problems.get("results.json")
    note = unknown(problem) if problem else ""
    return (
        paragraph(about)
        + note
        + table(
            f"Retrieval by form of the energy, {origin}. Bold: the form reported above.",
            f'<tr><th scope="col" rowspan="2" class="words">Energy</th>{groups}</tr>'
            f"<tr>{columns}</tr>",
            rows + _chance_row(found),
        )
    )


def _result_row(name: str, one: Mapping[str, Any], chosen: bool) -> str:
    cells = ""
    for key, _ in DIRECTIONS:
        direction = part(one, key)
        shares = [percent(value(direction, f"recall_at_{k}")) for k in (1, 5, 10)]
        cells += _cells([*shares, rank(value(direction, "median_rank"))])
    state = ' class="chosen"' if chosen else ""
    return f'<tr{state}><th scope="row">{escape(name)}</th>{cells}</tr>'


def _chance_row(found: Mapping[str, Any]) -> str:
    """k / images; the median rank has a simple expectation only with one caption per image."""
    chance, images = value(found, "chance_at_1"), value(found, "num_images")
    paired = images == value(found, "num_texts")
    shares = [percent(min(k * chance, 1.0)) for k in (1, 5, 10)]
    cells = _cells([*shares, rank((images + 1) / 2) if paired else DASH]) * 2
    return f'<tr class="chance"><th scope="row">chance</th>{cells}</tr>'


def _cells(shown: Iterable[str]) -> str:
    first, *rest = shown
    return f'<td class="split">{first}</td>' + "".join(f"<td>{one}</td>" for one in rest)


def energies(energy: Tensor) -> str:
    """The (i, t) matrix of energies as an image with its legend."""
    if energy.numel() == 0:
        return unknown("No energies of held-out pairs were recorded.")
    drawn = draw_energies(energy)
    images, texts = energy.shape
    low, high = number(drawn.low), number(drawn.high)
    words = ""
    if images == texts:
        found = retrieval(energy, torch.arange(images, device=energy.device))
        right = round(found.image_to_text.recall_at_1 * images)
        words = paragraph(
            "Own pairs lie on the diagonal: a model that aligns shows a light line there. In"
            f" {right} of {images} rows the own caption has the lowest energy.",
            "matrix-words",
        )
    if drawn.low == drawn.high:
        words += paragraph("All energies are the same.", "note")
    unfinished = int((~torch.isfinite(energy)).sum())
    if unfinished:
        words += paragraph(
            f"{count(unfinished)} energies are not finite and drawn in grey.", "note"
        )
    alt = (
        f"Energies of {images} images and {texts} captions as colours, from {low} to {high};"
        " own pairs on the diagonal"
    )
    return (
        paragraph("Each row is an image, each column a caption, each cell the energy of the two.")
        + f'<figure class="matrix"><img class="image" src="{drawn.matrix}" alt="{alt}">'
        f'<figcaption>{words}<div class="scale"><img src="{drawn.legend}"'
        ' alt="Colour scale from low energy, light, to high energy, dark">'
        f"<p><span>{low}, compatible</span><span>{high} and above</span></p></div>"
        "</figcaption></figure>"
    )


def collapse(run: RunRecord) -> str:
    """Readings of both modalities, and the energies of matched and shuffled pairs."""
    readings, origin = run.best_known("collapse")
    if readings is None:
        return unknown("Collapse has not been measured yet.")
    rows = ""
    for modality in ("image", "text"):
        one = part(readings, modality)
        rows += (
            f'<tr><th scope="row">{modality}</th><td>{number(value(one, "effective_rank"))} of'
            f" {count(value(one, 'dimensions'))}</td><td>{number(value(one, 'mean_std'))}</td>"
            f"<td>{number(value(one, 'min_std'))}</td></tr>"
        )
    embeddings = table(
        f"Pooled embeddings, {origin}.",
        '<tr><th scope="col" class="words">Modality</th><th scope="col">effective rank</th>'
        '<th scope="col">mean std</th><th scope="col">smallest std</th></tr>',
        rows,
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("matched", "shuffled", "gap"))
    shown = [value(readings, key) for key in ("matched_energy", "shuffled_energy", "gap")]
    pairs = table(
        "Raw energy of matched and shuffled pairs, means.",
        f"<tr>{head}</tr>",
        "<tr>" + "".join(f"<td>{number(one)}</td>" for one in shown) + "</tr>",
    )
    about = (
        "Collapse is measured, never inferred from the loss: how many directions the embeddings"
        " use, how far they spread, and whether right partners have lower energy than wrong ones."
    )
    return f'{paragraph(about)}{embeddings}<div class="table-gap">{pairs}</div>'


def rejected(run: RunRecord) -> str:
    """Broken items and their reasons."""
    problem = run.problems.get("rejected.jsonl")
    if run.rejected is None or (not run.rejected and problem is None):
        missing = problem is None or "not there" in problem
        return unknown("No broken items were recorded." if missing else str(problem))
    total = len(run.rejected)
    rows = "".join(
        f'<tr><td class="words" dir="auto">{escape(item.get("item", "?"))}</td>'
        f'<td class="words">{escape(item.get("reason", "?"))}</td></tr>'
        for item in run.rejected[:LISTED]
    )
    about = f"{count(total)} {'item was' if total == 1 else 'items were'} broken and not used."
    if total > LISTED:
        about += f" The first {LISTED} are listed; rejected.jsonl has all."
    listed = table(
        "Items that could not be used, and why.",
        '<tr><th scope="col" class="words">Item</th><th scope="col" class="words">Reason</th></tr>',
        rows,
    )
    return paragraph(about) + listed + (unknown(problem) if problem else "")


def reproduce(run: RunRecord) -> str:
    """The command, the whole configuration, the environment."""
    command = (run.environment or {}).get("command")
    if isinstance(command, (list, tuple)):
        command = shlex.join(str(one) for one in command)
    about = "The command of this run:"
    if not isinstance(command, str) or not command:
        about = "The command was not recorded; this one trains with the same configuration:"
        command = f"tijepa train --config {shlex.quote(f'runs/{run.name}/config.yaml')}"
    shown = f'<pre class="command"><code>{escape(command)}</code></pre>'
    return paragraph(about) + shown + _configuration(run) + _environment(run)


def _configuration(run: RunRecord) -> str:
    if run.config is None:
        return unknown(run.problems.get("config.yaml", "config.yaml is empty."))
    text = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    return (
        "<details><summary>Full resolved configuration</summary>"
        f'<pre tabindex="0"><code>{escape(text)}</code></pre></details>'
    )


def _environment(run: RunRecord) -> str:
    if run.environment is None:
        return unknown(run.problems.get("environment.json", "environment.json is empty."))
    rows = "".join(
        f'<tr><th scope="row">{escape(plain(key))}</th><td class="words">{escape(one)}</td></tr>'
        for key, one in _flat(run.environment)
    )
    return (
        "<details><summary>Environment</summary>"
        f"{table('Software, machine and data of the run.', '', rows)}</details>"
    )


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as one list of names and texts."""
    for key, one in mapping.items():
        if isinstance(one, dict):
            yield from _flat(one, f"{prefix}{key}, ")
        elif isinstance(one, (list, tuple)):
            yield f"{prefix}{key}", " ".join(str(item) for item in one)
        else:
            yield f"{prefix}{key}", str(one)
