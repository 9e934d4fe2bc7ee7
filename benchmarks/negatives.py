"""With and without negatives: tijepa against CLIP and SigLIP from small to large batches.

Same encoders, same order of pairs, equal samples seen, same optimizer and schedule; for every
objective and batch size the learning rate is tuned on the validation split until the best one has
been tried with four times less and four times more. That search is by seed 0; the two rates it
finds best are trained by every seed, and the one with the higher mean on validation is judged on
the test split: recall at 1 among 500 held-out scenes with distinct captions, mean of both
directions. The rivals keep their own best habits: a learned temperature, a linear head as
published, cosine similarity.

    python benchmarks/negatives.py [--quick] [--processes 2] [--out FILE]

Runs that are finished are kept in a journal beside the results and not done again.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from figures import draw_rates
from grid.contest import Contest, losses, ratios
from grid.job import OBJECTIVES, SMALL, Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.scenes import keep_scenes, open_scenes
from grid.training import Training

SAMPLES = 60_000
BATCHES = (8, 16, 64, 256)
ITEMS = 24_000
HELD_OUT = 500
FIRST = {"tijepa": 1e-3, "clip": 5e-4, "siglip": 5e-4}  # where tuning starts, at batch 64


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test."""
    training = Training(job, open_scenes(folder), SMALL)
    training.advance(job.steps)
    return trained_recalls(training)


def main() -> None:
    options_of = parser("negatives", __doc__)
    options_of.add_argument(
        "--batches", type=int, nargs="+", default=BATCHES, help="default: 8 16 64 256"
    )
    options_of.add_argument("--samples", type=int, default=SAMPLES, help="pairs seen by each run")
    options_of.add_argument(
        "--reach", type=int, default=2, help="rates tried on either side of the best one"
    )
    options_of.add_argument(
        "--finalists", type=int, default=2, help="rates that every seed is trained at"
    )
    options = options_of.parse_args()
    samples = 64 if options.quick else options.samples
    batches = (8, 64) if options.quick else options.batches
    items, held_out = (300, 40) if options.quick else (ITEMS, HELD_OUT)
    base = (*SMALL, *options.set)

    def job(name: str, cell: str, lr: float, seed: int) -> Job:
        own = tuple(options.ours) if name == "tijepa" else ()
        steps = max(2, samples // int(cell))
        return Job(name, int(cell), lr, seed, steps, settings=(*options.set, *own))

    contest = Contest(
        objectives=tuple(OBJECTIVES),
        cells=[str(batch) for batch in batches],
        job=job,
        first=lambda name, cell: FIRST[name] * (0.5 if int(cell) < 64 else 1.0),
        seeds=range(1 if options.quick else options.seeds),
        reach=0 if options.quick else options.reach,
        finalists=1 if options.quick else options.finalists,
    )
    with runner(
        options, run, lambda at: keep_scenes(at, items=items, held_out=held_out), base=SMALL
    ) as made:
        outcome = contest.held(made)
        chance = f"{100 / held_out:.1f} %"
        made.console.print(
            outcome.table(f"Recall at 1 of {held_out} held-out scenes (chance {chance})")
        )
        summary, loss = outcome.summary(), losses(outcome)
        window = losses(outcome, centred=False)
        payload = {
            "seeds": list(contest.seeds),
            "held_out": held_out,
            "training_scenes": items,
            "samples": samples,
            "ratio_to_best_contrastive": ratios(summary),
            "ratio_to_clip": ratios(summary, ("clip",)),
            "lr_robustness": {
                "what": "1 - mean / best of validation over rates from 1/4 to 4 times the best",
                "by_batch": loss,
                **{name: fmean(by[name] for by in loss.values()) for name in OBJECTIVES},
            },
            "lr_robustness_best_range": {
                "what": "the same over the range of 16 around the best in which it loses least",
                "by_batch": window,
                **{name: fmean(by[name] for by in window.values()) for name in OBJECTIVES},
            },
            "summary": summary,
            "learning_rates_tried": [
                {**row, "batch": int(row["cell"])} for row in outcome.rates_tried()
            ],
            "runs": outcome.runs(),
            "configuration": {
                name: configuration(job(name, contest.cells[0], 5e-4, 0), base).to_yaml()
                for name in OBJECTIVES
            },
        }
        path = written(options, payload)
        draw_rates(payload, path.with_suffix(".svg"))
        made.console.print(f"written to {path} and beside it the image", highlight=False)


if __name__ == "__main__":
    main()
