"""What keeps embeddings alive, and whether the collapse guard sees it when nothing does.

EMA targets of the pooled embeddings at four momenta, constant over the run (0 is the encoder of one
step ago, in evaluation mode), and stop-gradient beside them; batches of 8 and 64; every
regularizer, at its default weight, and none. The guard judges ten evaluations of each run as in
training; its last verdict stands against recall at 1 of 500 test scenes:

- `fine`: at least half of the best of the same batch size;
- `lost`: less than ten times chance, as far as a model gets that hardly tells pairs apart;
- `poor`: between the two.

    python benchmarks/collapse.py [--quick] [--processes 2] [--out FILE]

The default combination is stop-gradient with SIGReg.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from figures import Cell, draw_matrix
from grid.job import SMALL, Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.scenes import keep_scenes, open_scenes
from grid.training import Training
from tijepa.evaluate.collapse_metrics import collapse_metrics, target_embeddings, watched
from tijepa.evaluate.tasks import held_out_batch, task_energies
from tijepa.training.checkpoint import RunState
from tijepa.training.guard import build_guard

SAMPLES = 30_000
ITEMS, HELD_OUT = 24_000, 500
EVALUATIONS = 10
BATCHES = (8, 64)
MOMENTA = (0.0, 0.9, 0.99, 0.999)
REGULARIZERS = ("none", "sigreg", "vicreg", "visreg")
RATES = {8: 5e-4, 64: 1e-3}
STOP = "stop-gradient"
DEFAULT = (STOP, "sigreg")
VERDICTS = ("healthy", "early", "degrading", "collapsed")
OUTCOMES = ("fine", "poor", "lost")
COLOURS = {"healthy": "#1a7f37", "early": "#57606a", "degrading": "#bc4c00", "collapsed": "#a40e26"}


def targets_of(column: str) -> tuple[str, ...]:
    """Settings of a column."""
    if column == STOP:
        return ()
    momentum = column.removeprefix("τ ")
    return ("objective.pooled_targets=ema", f"optim.ema_momentum=[{momentum}, {momentum}]")


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once under the eyes of the guard; recall at 1 of the model it ends with."""
    training = Training(job, open_scenes(folder), SMALL)
    held_out = training.held.held_out["validation"]
    batch = held_out_batch(held_out, training.held.words, training.max_tokens)
    guard = build_guard(training.config, measured=True)
    state = RunState(step=0, cursor=0)
    history: list[dict[str, Any]] = []
    record: dict[str, Any] = {}
    while training.step < job.steps and not training.diverged:
        training.advance(-(-job.steps // EVALUATIONS))
        energies = task_energies(training.model, training.objective, batch)
        modalities, directions = watched(energies)
        pairs = training.uncalibrated().embeddings_of_inputs(held_out.images, held_out.texts)
        targets = target_embeddings(training.model, batch)
        readings = collapse_metrics(pairs, targets, modalities=modalities, directions=directions)
        state = RunState(training.step, training.step * job.batch, tracks=state.tracks)
        state, health = guard.examine(state, readings)
        record = health.record
        history.append(
            {"step": training.step, "verdict": health.verdict, "readings": record["readings"]}
        )
    return {
        "verdict": "diverged" if training.diverged else record["verdict"],
        "reason": record.get("reason", ""),
        "history": history,
        **trained_recalls(training),
    }


def judged(recall: float, best: float, chance: float) -> str:
    """What retrieval says of a run, as at the top of the file."""
    if recall < 10 * chance:
        return "lost"
    return "fine" if recall >= best / 2 else "poor"


def agreement(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Verdicts against outcomes: the table, and what neither should ever see of the other.

    `unnoticed` are lost runs that the guard calls healthy, `false_alarms` fine ones that it calls
    collapsed; `agree` is the share of cells in which healthy is fine and collapsed is not.
    """
    counted = Counter((cell["verdict"], cell["retrieval"]) for cell in cells)
    right = sum(
        cell["retrieval"] == "fine" if cell["verdict"] == "healthy" else cell["retrieval"] != "fine"
        for cell in cells
    )
    return {
        "table": {v: {o: counted[v, o] for o in OUTCOMES} for v in VERDICTS},
        "agree": right / len(cells),
        "unnoticed": counted["healthy", "lost"],
        "false_alarms": counted["collapsed", "fine"],
    }


def main() -> None:
    options_of = parser("collapse", __doc__, seeds=1)
    options_of.add_argument("--samples", type=int, default=SAMPLES, help="pairs seen by each run")
    options = options_of.parse_args()
    quick = options.quick
    samples = 320 if quick else options.samples
    items, held_out = (300, 40) if quick else (ITEMS, HELD_OUT)
    columns = [STOP, *(f"τ {momentum:g}" for momentum in MOMENTA)]
    rows, batches = REGULARIZERS, BATCHES
    if quick:
        columns, rows, batches = [STOP, "τ 0.99"], ("none", "sigreg"), (64,)
    seeds = range(1 if quick else options.seeds)

    def job(batch: int, column: str, row: str, seed: int) -> Job:
        regularizers = [f"objective.regularize_{name}.name={row}" for name in ("image", "text")]
        settings = (*options.set, *options.ours, *targets_of(column), *regularizers)
        steps = max(2, samples // batch)
        return Job("tijepa", batch, RATES[batch], seed, steps, settings=settings)

    keys = [(b, column, row) for b in batches for column in columns for row in rows]
    jobs = [(key, job(*key, seed)) for key in keys for seed in seeds]
    with runner(
        options, run, lambda at: keep_scenes(at, items=items, held_out=held_out), base=SMALL
    ) as made:
        results = made.results([one for _, one in jobs], _said)
        cells = []
        for (key, one), result in zip(jobs, results, strict=True):
            names = dict(zip(("batch", "targets", "regularizer"), key, strict=True))
            cells.append({**names, "seed": one.seed, **result})
        for batch in batches:
            own = [cell for cell in cells if cell["batch"] == batch]
            best = max(cell["test"] for cell in own)
            for cell in own:
                cell["retrieval"] = judged(cell["test"], best, 1 / held_out)
        found = agreement(cells)
        default = [c for c in cells if (c["targets"], c["regularizer"]) == DEFAULT]
        payload = {
            "seeds": list(seeds),
            "samples": samples,
            "agreement": found,
            "default_healthy": all(cell["verdict"] == "healthy" for cell in default),
            "cells": cells,
            "configuration": configuration(job(64, *DEFAULT, 0), SMALL).to_yaml(),
        }
        path = written(options, payload)
        draw(path.with_suffix(".svg"), cells, columns, rows)
        made.console.print(
            f"guard and retrieval agree in {100 * found['agree']:.0f} % of {len(cells)} runs;"
            f" {found['unnoticed']} lost ones unnoticed, {found['false_alarms']} false alarms\n"
            f"written to {path} and beside it the image",
            highlight=False,
        )


def draw(
    path: Path, cells: list[dict[str, Any]], columns: list[str], rows: tuple[str, ...]
) -> None:
    """The matrix: worst verdict and worst outcome of the seeds, recall at 1 as their mean."""
    panels: dict[str, dict[tuple[str, str], Cell]] = {}
    for cell in cells:
        same = [
            c
            for c in cells
            if all(c[name] == cell[name] for name in ("batch", "targets", "regularizer"))
        ]
        worst = max((c["verdict"] for c in same), key=lambda v: (*VERDICTS, "diverged").index(v))
        outcome = max((c["retrieval"] for c in same), key=OUTCOMES.index)
        key = (cell["regularizer"], cell["targets"])
        panels.setdefault(f"batch {cell['batch']}", {})[key] = Cell(
            COLOURS.get(worst, COLOURS["collapsed"]),
            f"{100 * fmean(c['test'] for c in same):.1f} %",
            outcome if worst != "diverged" else worst,
            mark=(cell["targets"], cell["regularizer"]) == DEFAULT,
        )
    draw_matrix(
        path,
        label="The guard's verdict and recall at 1 by targets, regularizer and batch size",
        panels=panels,
        rows=rows,
        columns=columns,
        legend=COLOURS,
        note="Colour: the guard's last verdict. Number: mean recall at 1 on scenes. Verdict and "
        "what recall means: worst of the seeds. Framed: the default.",
    )


def _said(result: dict[str, Any]) -> str:
    return f"{result['verdict']}, test {100 * result['test']:.1f} %"


if __name__ == "__main__":
    main()
