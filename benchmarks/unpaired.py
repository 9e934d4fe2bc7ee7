"""What images and texts without partner add: a tenth of the pairs alone, and all the rest unpaired.

- `alone`: 10 % of the pairs.
- `regularized`: the same pairs, and all images and all texts as items of one modality. They have no
  partner to predict: the regularizers see their embeddings.
- `predicted`: the same, with the tasks `image_only` and `text_only` for all of them.

A third of the items of a batch are pairs, a third images, a third texts, so a batch three times as
large sees as many pairs a step. Rates are tuned on validation for each and for each number of
steps, since 10 % of the pairs are soon learned by heart; every seed is judged on test. `gain` is
the better of the two at its best number of steps over `alone` at its best.

    python benchmarks/unpaired.py [--quick] [--processes 2] [--out FILE]
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from grid.contest import Contest
from grid.held import Held, pairs_of
from grid.job import SMALL, Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.scenes import keep_scenes, open_scenes
from grid.training import Training
from tijepa.evaluate.model import EvaluationSet

ITEMS, HELD_OUT = 24_000, 500
SHARE = 10  # one pair in ten keeps its partner
BATCH = 32  # pairs a step, in all variants
STEPS = (400, 1200)
WEIGHT = 0.5  # of each of the tasks of one modality
VARIANTS: dict[str, tuple[str, ...]] = {
    "alone": (),
    "regularized": (),
    "predicted": (
        f"objective.tasks.image_only={WEIGHT}",
        f"objective.tasks.text_only={WEIGHT}",
    ),
}


@cache
def view(folder: Path, name: str) -> Held:
    """The pairs that are left, or a mix of these and all images and texts alone.

    `name` is "alone" or "mixed" and, where they are not as usual, the number of images.
    """
    name, _, _ = name.partition(" of ")
    held = open_scenes(folder)
    count = len(held.pictures)
    kept = max(2, count // SHARE)
    pairs = pairs_of(kept)
    known = held.calibration
    few = min(kept, len(known.images))
    texts = int((known.image_of_text < few).sum())
    calibration = EvaluationSet(
        known.images[:few], known.texts[:texts], known.image_of_text[:texts], known.indices[:few]
    )
    if name != "alone":
        number = np.arange(count, dtype=np.int32)
        none = np.full(count, -1, dtype=np.int32)
        repeated = np.tile(pairs, (-(-count // kept), 1))[:count]
        images, texts = np.stack([number, none], axis=1), np.stack([none, number], axis=1)
        pairs = np.concatenate([repeated, images, texts])
    return replace(held, items=pairs, calibration=calibration)


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test."""
    training = Training(job, view(folder, job.data), SMALL)
    training.advance(job.steps)
    return trained_recalls(training)


def main() -> None:
    options_of = parser("unpaired", __doc__)
    options_of.add_argument("--steps", type=int, nargs="+", default=STEPS)
    options_of.add_argument(
        "--items", type=int, default=ITEMS, help="images, and texts, of which a tenth are pairs"
    )
    options_of.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS)
    )
    options = options_of.parse_args()
    quick = options.quick
    items, held_out = (300, 40) if quick else (options.items, HELD_OUT)
    which = "" if quick or items == ITEMS else f" of {items}"

    def job(name: str, cell: str, lr: float, seed: int) -> Job:
        alone = name == "alone"
        settings = (*options.set, *options.ours, *VARIANTS[name])
        batch = BATCH if alone else 3 * BATCH
        data = ("alone" if alone else "mixed") + which
        return Job("tijepa", batch, lr, seed, int(cell), data, settings)

    contest = Contest(
        objectives=options.variants,
        cells=[str(steps) for steps in ((3,) if quick else options.steps)],
        job=job,
        first=lambda name, cell: 1e-3,
        seeds=range(1 if quick else options.seeds),
        reach=0 if quick else 1,
    )
    with runner(
        options, run, lambda at: keep_scenes(at, items=items, held_out=held_out), base=SMALL
    ) as made:
        outcome = contest.held(made)
        made.console.print(outcome.table(f"Recall at 1 of {held_out} held-out scenes, by steps"))
        summary = outcome.summary()
        best = {n: max(rows[n]["mean"] for rows in summary.values()) for n in options.variants}
        helped = [recall for name, recall in best.items() if name != "alone"]
        payload = {
            "seeds": list(contest.seeds),
            "pairs": items // SHARE,
            "images_and_texts": items,
            "best": best,
            "gain": max(helped, default=0.0) / max(1e-9, best.get("alone", 0.0)),
            "summary": summary,
            "learning_rates_tried": outcome.rates_tried(),
            "runs": outcome.runs(),
            "configuration": {
                name: configuration(job(name, contest.cells[0], 1e-3, 0), SMALL).to_yaml()
                for name in options.variants
            },
        }
        path = written(options, payload)
        made.console.print(f"gain {payload['gain']:.2f}; written to {path}", highlight=False)


if __name__ == "__main__":
    main()
