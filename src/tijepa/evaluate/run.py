"""Evaluate a run on a split, and close a run: final model, results, report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tijepa.config import RunConfig, load_config
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.embedder import Embedder, load, model_folder
from tijepa.errors import CheckpointError, DataError
from tijepa.evaluate.model import EvaluationSet, Measured, evaluation_set, measure
from tijepa.evaluate.answers import top_retrievals
from tijepa.evaluate.report import write_report
from tijepa.evaluate.summary import print_summary
from tijepa.model.saving import write_json

__all__ = ["evaluate_run", "finish_run"]

MATRIX_PAIRS = 64


def evaluate_run(
    run: Path,
    *,
    data: str | None = None,
    split: str = "test",
    checkpoint: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Retrieval by every form of energy and collapse readings of a run's model on one split.

    `data` is a folder (or "scenes") other than the one the run was trained on; `checkpoint` is
    "best", "last" or a step, by default the final model. Writes nothing. Raises `CheckpointError`
    and `DataError`.
    """
    config = load_config(file=_config_of(run))
    embedder = load(run, checkpoint=checkpoint)
    splits = _open(config, data)
    evaluation = _evaluation_set(splits, split, config)
    if console is not None:
        console.print(
            f"evaluating {len(evaluation.images)} images and {len(evaluation.texts)} texts of "
            f"{splits.description}, split {split}",
            highlight=False,
        )
    return {"split": split, **measure(embedder, evaluation).results}


def finish_run(run: Path, config: RunConfig, splits: PairSplits, console: Console) -> None:
    """Keep the best checkpoint as the run's model, evaluate it, write results and report.

    The split is test where there is one, else validation; a source with neither gets a model and
    no results.
    """
    best = model_folder(run, "best" if (run / "checkpoints" / "best.json").exists() else "last")
    target = run / "model"
    target.mkdir(exist_ok=True)
    for name in ("model.json", "model.safetensors", "tokenizer.json", "calibration.safetensors"):
        if (best / name).exists():
            shutil.copyfile(best / name, target / name)
    split = next((name for name in ("test", "validation") if name in splits.splits), None)
    if split is None:
        console.print("no test or validation split: nothing to evaluate on", highlight=False)
        return
    embedder = load(target)
    try:
        evaluation = _evaluation_set(splits, split, config)
    except DataError as error:
        console.print(f"not evaluated: {error}", highlight=False)
        return
    measured = measure(embedder, evaluation)
    results = {"split": split, "checkpoint": best.name, **measured.results}
    if config.data.source == "scenes":
        novel = measure(embedder, _evaluation_set(splits, "novel", config))
        results["novel"] = {"retrieval": novel.results["retrieval"]}
    write_json(results, run / "results.json")
    report = _report(run, embedder, evaluation, measured, splits, split)
    print_summary(console, results, run)
    console.print(f"report    {report}", highlight=False)


def _report(
    run: Path,
    embedder: Embedder,
    evaluation: EvaluationSet,
    measured: Measured,
    splits: PairSplits,
    split: str,
) -> Path:
    """The report with the energies of the first 64 pairs, one caption each."""
    count = min(MATRIX_PAIRS, len(evaluation.images))
    first = [int((evaluation.image_of_text == i).nonzero()[0]) for i in range(count)]
    matrix = measured.energy[:count][:, torch.tensor(first)]
    gallery = top_retrievals(evaluation, measured.energy, splits.split(split))
    return write_report(run, energy=matrix, gallery=gallery)


def _open(config: RunConfig, data: str | None) -> PairSplits:
    return open_splits(
        data or config.data.source,
        image_size=config.data.image_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
    )


def _evaluation_set(splits: PairSplits, split: str, config: RunConfig) -> EvaluationSet:
    return evaluation_set(
        splits.split(split),
        items=config.data.test_items,
        captions=config.data.eval_captions,
        image_size=config.data.image_size,
    )


def _config_of(run: Path) -> Path:
    path = run / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{run} is not a run folder: it has no config.yaml; check the path")
    return path
