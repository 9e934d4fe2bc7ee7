"""What images and texts without partner add: a tenth of the pairs alone, and all the rest unpaired.

- `alone`: 10 % of the pairs.
- `regularized`: the same pairs, and all images and all texts as items of one modality. They have no
  partner to predict: the regularizers see their embeddings.
- `predicted`: the same, with the tasks `image_only` and `text_only` for all of them.
- `matched`: the same pairs, and pseudo-pairs, as `tijepa pair` finds them: a run of `alone` of the
  same seed and steps, at `--teacher-lr`, gives each image that lacks a partner its nearest text and
  each text its nearest image.

A third of the items of a `regularized` or `predicted` batch are pairs, a third images, a third
texts, so a batch three times as large sees as many pairs a step; one of `matched` is twice as
large, most of it pseudo-pairs. Rates are tuned on validation for each and for each number of steps,
since few pairs are soon learned by heart; every seed is judged on test. `gain` is the best of the
others at its best number of steps over `alone` at its best.

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
from numpy.typing import NDArray

from grid.contest import Contest
from grid.held import Held, pairs_of
from grid.job import SMALL, Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.scenes import keep_scenes, open_scenes
from grid.training import Training
from tijepa.data.scenes import Scenes
from tijepa.evaluate.measure import EvaluationSet
from tijepa.search.pair_energies import nearest_pairs

ITEMS, HELD_OUT = 6_000, 500
SHARE = 10  # one pair in ten keeps its partner
FIRST = 4e-3  # where tuning starts
BATCH = 32  # pairs a step, in all variants
STEPS = (1200,)
WEIGHT = 0.5  # of each of the tasks of one modality
TEACHER_LR = 8e-3  # the best of `alone` at these pairs and steps
REPEATS = 12  # rows of an image, over which its texts are spread
VARIANTS: dict[str, tuple[str, ...]] = {
    "alone": (),
    "regularized": (),
    "predicted": (f"objective.tasks.image_only={WEIGHT}", f"objective.tasks.text_only={WEIGHT}"),
    "matched": (),
}
BATCHES = {"alone": BATCH, "regularized": 3 * BATCH, "predicted": 3 * BATCH, "matched": 2 * BATCH}
DATA = {"alone": "alone", "regularized": "mixed", "predicted": "mixed", "matched": "matched"}


@cache
def view(folder: Path, name: str) -> Held:
    """The pairs that are left, "alone", or "mixed" with all images and texts by themselves."""
    held = open_scenes(folder)
    count = len(held.images)
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


@cache
def matched(folder: Path, teacher: Job) -> Held:
    """The pairs that are left and those that a run on them alone makes of the others."""
    alone = view(folder, "alone")
    training = Training(teacher, alone, SMALL)
    training.advance(teacher.steps)
    embedder = training.embedder()
    rest = np.arange(len(alone.items), len(alone.images))
    images = embedder.encode_image(alone.images[rest], form="calibrated", output="numpy")
    texts = [
        text for texts in Scenes("train", len(alone.images)).texts(rest.tolist()) for text in texts
    ]
    captions = embedder.encode_text(texts, form="calibrated", output="numpy")
    means = captions.reshape(len(rest), -1, captions.shape[1]).mean(axis=1)
    at_image, at_text, _ = nearest_pairs(images, means)
    pairs = np.stack([rest[at_image], rest[at_text]], axis=1).astype(np.int32)
    return replace(alone, items=spread(np.concatenate([alone.items, pairs])))


def spread(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """The pairs, repeated so that images count the same whatever the number of their texts."""
    _, image, texts = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
    return pairs.repeat(np.maximum(1, np.rint(REPEATS / texts[image])).astype(int), axis=0)


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test, and how many pseudo-pairs are true ones."""
    kind, _, _ = job.data.partition(" of ")
    kind, _, lr = kind.partition(" by ")
    if kind != "matched":
        training = Training(job, view(folder, kind), SMALL)
        training.advance(job.steps)
        return trained_recalls(training)
    teacher = replace(job, batch=BATCH, lr=float(lr), data="alone")
    held = matched(folder, teacher)
    training = Training(job, held, SMALL)
    training.advance(job.steps)
    pseudo = np.unique(held.items[held.items[:, 0] >= len(view(folder, "alone").items)], axis=0)
    true = float((pseudo[:, 0] == pseudo[:, 1]).mean())
    return {**trained_recalls(training), "pseudo_pairs": len(pseudo), "true_share": true}


def main() -> None:
    options_of = parser("unpaired", __doc__)
    options_of.add_argument("--steps", type=int, nargs="+", default=STEPS)
    options_of.add_argument(
        "--items", type=int, default=ITEMS, help="images, and texts, of which a tenth are pairs"
    )
    options_of.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS)
    )
    options_of.add_argument("--teacher-lr", type=float, default=TEACHER_LR, help="of `matched`")
    options = options_of.parse_args()
    quick = options.quick
    items, held_out = (300, 40) if quick else (options.items, HELD_OUT)
    which = "" if quick else f" of {items}"

    def job(name: str, cell: str, lr: float, seed: int) -> Job:
        settings = (*options.set, *options.ours, *VARIANTS[name])
        data = DATA[name] + (f" by {options.teacher_lr}" if name == "matched" else "") + which
        return Job("tijepa", BATCHES[name], lr, seed, int(cell), data, settings)

    contest = Contest(
        objectives=options.variants,
        cells=[str(steps) for steps in ((3,) if quick else options.steps)],
        job=job,
        first=lambda name, cell: FIRST,
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
        gain = max(helped) / max(1e-9, best["alone"]) if helped and "alone" in best else None
        payload = {
            "seeds": list(contest.seeds),
            "pairs": items // SHARE,
            "images_and_texts": items,
            "teacher_lr": options.teacher_lr,
            "best": best,
            "gain": gain,  # None without `alone`, or with nothing beside it
            "summary": summary,
            "learning_rates_tried": outcome.rates_tried(),
            "runs": outcome.runs(),
            "configuration": {
                name: configuration(job(name, contest.cells[0], 1e-3, 0), SMALL).to_yaml()
                for name in options.variants
            },
        }
        path = written(options, payload)
        told = "" if gain is None else f"gain {gain:.2f}; "
        made.console.print(f"{told}written to {path}", highlight=False)


if __name__ == "__main__":
    main()
