"""Captions that repeat: tijepa against CLIP and SigLIP where many negatives are none.

Each caption fits one image in 24 (`repeating`). As in `negatives.py`: same encoders, order of
pairs and samples, rates tuned on validation for every objective and batch size, every seed judged
on test. Retrieval counts every image of the same caption as right: images look for their caption
among 24, captions for an image of theirs in galleries of 120.

    python benchmarks/repeats.py [--quick] [--processes 2] [--out FILE]
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from figures import draw_rates
from grid.contest import Contest, losses, ratios
from grid.job import OBJECTIVES, SMALL, Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.training import Training
from repeating import CAPTIONS, by_caption, keep_repeating, open_repeating

SAMPLES = 60_000
BATCHES = (16, 64, 256)
ITEMS, HELD_OUT = 12_000, 1200
FIRST = {"tijepa": 1e-3, "clip": 5e-4, "siglip": 5e-4}


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test."""
    training = Training(job, open_repeating(folder), SMALL)
    training.advance(job.steps)
    return trained_recalls(training, by_caption)


def main() -> None:
    options_of = parser("repeats", __doc__)
    options_of.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options_of.add_argument("--samples", type=int, default=SAMPLES, help="pairs seen by each run")
    options = options_of.parse_args()
    quick = options.quick
    samples = 64 if quick else options.samples
    items, held_out = (200, 120) if quick else (ITEMS, HELD_OUT)

    def job(name: str, cell: str, lr: float, seed: int) -> Job:
        own = tuple(options.ours) if name == "tijepa" else ()
        steps = max(2, samples // int(cell))
        return Job(name, int(cell), lr, seed, steps, "repeating", (*options.set, *own))

    contest = Contest(
        objectives=tuple(OBJECTIVES),
        cells=[str(batch) for batch in ((16,) if quick else options.batches)],
        job=job,
        first=lambda name, cell: FIRST[name] * (0.5 if int(cell) < 64 else 1.0),
        seeds=range(1 if quick else options.seeds),
        reach=0 if quick else 1,
    )
    with runner(
        options, run, lambda at: keep_repeating(at, items=items, held_out=held_out), base=SMALL
    ) as made:
        outcome = contest.held(made)
        made.console.print(outcome.table("Recall at 1, every image of the same caption right"))
        summary = outcome.summary()
        payload = {
            "seeds": list(contest.seeds),
            "captions": len(CAPTIONS),
            "held_out": held_out,
            "training_scenes": items,
            "samples": samples,
            "ratio_to_best_contrastive": ratios(summary),
            "lr_robustness": losses(outcome),
            "summary": summary,
            "learning_rates_tried": [
                {**row, "batch": int(row["cell"])} for row in outcome.rates_tried()
            ],
            "runs": outcome.runs(),
            "configuration": {
                name: configuration(job(name, contest.cells[0], 5e-4, 0), SMALL).to_yaml()
                for name in OBJECTIVES
            },
        }
        path = written(options, payload)
        draw_rates(payload, path.with_suffix(".svg"))
        made.console.print(f"written to {path} and beside it the image", highlight=False)


if __name__ == "__main__":
    main()
