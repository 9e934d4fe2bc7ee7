"""Evaluate a run on a split, and close a run: final model, results, report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tijepa.config import RunConfig, load_config
from tijepa.config.objectives import CLOSED_FORM, energy_names
from tijepa.data.pairs import PairSource, PairSplits
from tijepa.data.scenes import Scenes
from tijepa.errors import CheckpointError, DataError
from tijepa.evaluate.collapse_metrics import watched
from tijepa.evaluate.figures import EvaluatedPairs, figures
from tijepa.evaluate.forgetting import compares_projections, forgetting, own_cosine
from tijepa.evaluate.grounding import hard_negatives, pointing_on_scenes
from tijepa.evaluate.measure import (
    EvaluationSet,
    Measured,
    calibrate,
    calibration_pairs,
    closed_form_retrieval,
    evaluation_set,
    measure,
)
from tijepa.evaluate.retrieval import match_results, retrieval
from tijepa.evaluate.zero_shot import default_prompts, labelled_images, read_prompts, zero_shot
from tijepa.inference.embedder import Embedder
from tijepa.inference.feature_cache import cached_split
from tijepa.inference.inputs import energy_of_labels, prompt_list
from tijepa.inference.loading import MODEL_FILES, checkpoint_folder, load
from tijepa.inference.results import Forgetting, Match, Novel, Retrieval, RunResults, ZeroShot
from tijepa.io.files import whole_folder
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import FROZEN, link_or_copy, write_json
from tijepa.runs.record import open_run_data, read_run
from tijepa.runs.report.report import Query, gallery_of, write_report

MATRIX_PAIRS = 64
POINTED = 100  # scenes of the pointing game, each of which takes 64 images to encode


def evaluate_run(
    run: str | Path,
    *,
    data: str | None = None,
    split: str = "test",
    checkpoint: str | None = None,
    parts: bool = False,
    column: str | None = None,
    prompts: str | Path | None = None,
    evaluations: Sequence[str] = (),
    reporter: Reporter = SILENT,
    device: torch.device | str = "cpu",
) -> RunResults:
    """Retrieval by every form of energy, collapse and reliability of a run's model on one split.

    `data` is a source other than the one the run was trained on; `checkpoint` is
    "best", "last" or a step, by default the final model. What training cached of frozen encoders is
    read instead of encoded. A checkpoint without calibration is calibrated on the run's training
    and validation pairs; where those are not available the reporter is told, and there is no
    calibrated energy. With `parts` the results also hold
    `pointing` and `hard_negatives`, which only scenes can give, and with `column` they hold
    `zero_shot`, the classification of images by that column, in the words of the file `prompts`.
    The registered `evaluations`, and those of the run, stand under their names.
    Writes nothing.

        results = tijepa.evaluate("runs/demo", split="novel")
        results.retrieval.image_to_text.recall_at_1

    Raises `CheckpointError`, `DataError`, and `ConfigError` for prompts that are no such file.
    """
    run = Path(run)
    prompts = None if prompts is None else Path(prompts)
    config = load_config(file=_config_of(run))
    embedder = load(run, checkpoint=checkpoint, device=device)
    splits = open_run_data(config, run, reporter, other=data)
    with reporter.phase(f"reading the {split} split"):
        evaluation = _evaluation_set(embedder, splits, split, config, reporter)
    names = energy_names(config.objective)
    if embedder.calibration is None:
        with reporter.phase("calibrating on training pairs"):
            pairs = _calibration_sets(embedder, config, run, None if data else splits, reporter)
            words = {"text_infill/tokens", "text_only/tokens"} <= set(names)
            if pairs is not None:
                embedder.calibration = calibrate(embedder, *pairs, words=words)
    reporter.say(
        f"evaluating {len(evaluation.images)} images and {len(evaluation.texts)} texts of "
        f"{splits.description}, split {split}"
    )
    measured = measure(embedder, evaluation, watched(names))
    seen = split == "validation" and data is None
    match = _match(embedder, evaluation, measured, reporter, seen=seen)
    asked = dict.fromkeys([*config.evaluations, *evaluations])
    extra = figures(asked, _evaluated_pairs(measured, evaluation))
    beside = None if data else _closed_form(embedder, splits, evaluation, config, reporter)
    results = replace(
        measured.results,
        split=split,
        closed_form=beside,
        own_cosine=_own_cosine(embedder, measured, evaluation),
        match_probability=match,
        extra=extra,
    )
    source, items = splits.split(split), config.data.test_items
    if parts:
        with reporter.phase("pointing at objects and reading hard negatives"):
            results = replace(results, **meaning(embedder, source, items))
    if column is not None:
        with reporter.phase(f"classifying images by {column}"):
            scored = zero_shot_on(embedder, source, column, prompts, items)
            results = replace(results, zero_shot=scored)
    return results


def final_split(splits: PairSplits) -> str | None:
    """The split that a finished run is judged on: test where there is one, else validation."""
    return next((name for name in ("test", "validation") if name in splits.splits), None)


def finish_run(
    run: Path,
    config: RunConfig,
    splits: PairSplits,
    reporter: Reporter,
    device: torch.device | str = "cpu",
    original: Embedder | None = None,
) -> None:
    """Keep the best checkpoint as the run's model, evaluate it, write results and report.

    `original` has the towers of a text-image model as they came, where training changed them. A
    source without a `final_split` gets a model and a report without results. Raises
    `CheckpointError`.
    """
    kept = checkpoint_folder(run, "best") or checkpoint_folder(run, "last")
    if kept is None:
        raise CheckpointError(f"{run} has no checkpoint to make a model of; train it first")
    _keep(kept, run / "model")
    embedder = load(run / "model", device=device)
    split = final_split(splits)
    evaluation = None
    if split is None:
        reporter.say("not evaluated: there is neither a test nor a validation split")
    else:
        try:
            with reporter.phase(f"reading the {split} split"):
                evaluation = _evaluation_set(embedder, splits, split, config, reporter)
        except DataError as error:
            reporter.say(f"not evaluated: {split} split: {error}")
    if split is None or evaluation is None:
        report = write_report(run, energy=torch.zeros(0, 0), gallery=())
        reporter.say(f"report: {report}")
        return
    with reporter.phase(f"evaluating on the {split} split"):
        measured = measure(embedder, evaluation, watched(energy_names(config.objective)))
    match = _match(embedder, evaluation, measured, reporter, seen=split == "validation")
    results = replace(
        measured.results,
        split=split,
        checkpoint=kept.name,
        closed_form=_closed_form(embedder, splits, evaluation, config, reporter),
        own_cosine=_own_cosine(embedder, measured, evaluation),
        forgetting=_forgetting(embedder, original, config, reporter),
        match_probability=match,
        health=read_run(run).health,
        extra=figures(config.evaluations, _evaluated_pairs(measured, evaluation)),
    )
    if config.data.source == "scenes":
        with reporter.phase("evaluating on the novel split"):
            unseen = _evaluation_set(embedder, splits, "novel", config, reporter)
            novel = measure(embedder, unseen).results.retrieval
        assert novel is not None
        results = replace(results, novel=Novel(novel))
    write_json(results.to_json(), run / "results.json")
    with reporter.phase("writing the report"):
        gallery = _gallery(evaluation, measured, splits, split, reporter)
        write_report(run, energy=_matrix(evaluation, measured), gallery=gallery)
    reporter.results(results, run)


def _keep(checkpoint: Path, model: Path) -> None:
    """Copy what a model needs from a checkpoint, so that `model` is the old one or the new one."""
    with whole_folder(model) as new:
        for name in MODEL_FILES:
            if (checkpoint / name).exists():
                copy = link_or_copy if name == FROZEN else shutil.copyfile
                copy(checkpoint / name, new / name)


def _evaluated_pairs(measured: Measured, evaluation: EvaluationSet) -> EvaluatedPairs:
    features = evaluation.image_features
    return EvaluatedPairs(
        images=evaluation.images if features is None else features.pooled,
        texts=evaluation.texts,
        image_of_text=evaluation.image_of_text,
        embeddings=measured.embeddings,
        energy=measured.search,
    )


def _matrix(evaluation: EvaluationSet, measured: Measured) -> Tensor:
    """Energies of the first 64 pairs, one caption each."""
    first = evaluation.first_text[:MATRIX_PAIRS]
    return measured.search.pair[: len(first)][:, first]


def _gallery(
    evaluation: EvaluationSet,
    measured: Measured,
    splits: PairSplits,
    split: str,
    reporter: Reporter,
) -> Sequence[Query]:
    """Top retrievals; none, and a line that says so, where an image has become unreadable."""
    try:
        return gallery_of(evaluation, measured.search, splits.split(split))
    except DataError as error:
        reporter.say(f"no gallery: {error}")
        return ()


def _match(
    embedder: Embedder,
    evaluation: EvaluationSet,
    measured: Measured,
    reporter: Reporter,
    *,
    seen: bool,
) -> Match | None:
    """Reliability of the probability of match; None, and a line that says so, without one."""
    if embedder.match is None:
        reporter.say("no probability of match: it is fitted on a validation split")
        return None
    energy = measured.search.pair[:, evaluation.first_text]
    return match_results(energy, embedder.match, seen=seen)


def _closed_form(
    embedder: Embedder,
    splits: PairSplits,
    judged: EvaluationSet,
    config: RunConfig,
    reporter: Reporter,
) -> Retrieval | None:
    """What regression alone finds among the same pairs, from the features that training cached.

    None where they were not cached, or where the run itself is that.
    """
    if config.objective.name == CLOSED_FORM:
        return None
    if judged.image_features is None or judged.text_features is None:
        return None
    features = cached_split(embedder, splits.split("train"), "train", reporter)
    if features.image is None or features.text is None:
        return None
    with reporter.phase("solving in closed form, for comparison"):
        held_out = None
        if "validation" in splits.splits:
            items = config.data.eval_items
            held_out = _evaluation_set(embedder, splits, "validation", config, reporter, items)
        return closed_form_retrieval(features, held_out, judged)


def _own_cosine(embedder: Embedder, measured: Measured, judged: EvaluationSet) -> Retrieval | None:
    """What a text-image model finds by the cosine of its projections."""
    if not compares_projections(embedder.model):
        return None
    return retrieval(own_cosine(measured.embeddings), judged.image_of_text)


def _forgetting(
    embedder: Embedder, original: Embedder | None, config: RunConfig, reporter: Reporter
) -> Forgetting | None:
    """What training on top of a text-image model did to scenes; None where nothing was trained."""
    trained = config.objective.name != CLOSED_FORM and config.data.source != "scenes"
    if not trained or not compares_projections(embedder.model):
        return None
    with reporter.phase("evaluating on scenes, another domain"):
        return forgetting(embedder, original)


def _calibration_sets(
    embedder: Embedder, config: RunConfig, run: Path, splits: PairSplits | None, reporter: Reporter
) -> tuple[EvaluationSet, EvaluationSet | None] | None:
    """Training pairs, and validation pairs where there are any."""
    try:
        splits = splits or open_run_data(config, run, reporter)
        data, source = config.data, splits.split("train")
        features = cached_split(embedder, source, "train", reporter)
        pairs = calibration_pairs(source, data.image_size, data.mean, data.std, features)
    except DataError as error:
        reporter.say(f"no calibrated energy: the run's training pairs are not available ({error})")
        return None
    if "validation" not in splits.splits:
        return pairs, None
    try:
        items = config.data.eval_items
        return pairs, _evaluation_set(embedder, splits, "validation", config, reporter, items)
    except DataError as error:
        reporter.say(f"calibrated without held-out pairs: validation split: {error}")
        return pairs, None


def _evaluation_set(
    embedder: Embedder,
    splits: PairSplits,
    split: str,
    config: RunConfig,
    reporter: Reporter,
    items: int | None = None,
) -> EvaluationSet:
    source = splits.split(split)
    return evaluation_set(
        source,
        items=items or config.data.test_items,
        captions=config.data.eval_captions,
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        features=cached_split(embedder, source, split, reporter),
    )


def _config_of(run: Path) -> Path:
    path = run / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{run} is not a run folder: it has no config.yaml; check the path")
    return path


def meaning(embedder: Embedder, source: PairSource, items: int) -> dict[str, Any]:
    """`pointing` on the first 100 of `items` scenes, `hard_negatives` on all of them.

    Raises `DataError` where `source` is not scenes, for only they have boxes and relations.
    """
    if not isinstance(source, Scenes):
        raise DataError(
            "`parts` needs the ground truth of scenes, and this source has none: leave it out,"
            " or give `data=scenes`"
        )
    return {
        "pointing": pointing_on_scenes(embedder, source, min(POINTED, items)),
        "hard_negatives": hard_negatives(embedder, source, items),
    }


def zero_shot_on(
    embedder: Embedder, source: PairSource, column: str, prompts: Path | None, items: int
) -> ZeroShot:
    """Classify up to `items` images of `source` by the prompts of the values of `column`.

    The labels are the values that occur, or those of the file `prompts` where it lists them. The
    energy of a label is the mean over its prompts, by the model's default form. Raises `DataError`
    and `ConfigError` as `labelled_images` and `read_prompts` do, and `DataError` for a value that
    the file leaves out or where there is but one label.
    """
    read = None if prompts is None else read_prompts(prompts)
    found = labelled_images(source, column, embedder.card, items)
    chosen = read or default_prompts(column, scenes=isinstance(source, Scenes))
    by_label = chosen.of(sorted(set(found.values)))
    names = list(by_label)
    for value in found.values:
        if value not in by_label:
            raise DataError(f"column '{column}' holds '{value}', for which {prompts} has no label")
    if len(names) < 2:
        raise DataError(f"column '{column}' has one label, '{names[0]}': there is nothing to tell")
    texts = prompt_list(by_label)
    e = embedder.embeddings_of_inputs(found.images, [text for own in texts for text in own])
    form = embedder.default_form
    energy = energy_of_labels(embedder.search_energies_of(e, form).texts, list(map(len, texts)))
    label = torch.tensor([names.index(value) for value in found.values])
    prompted = {label: own[0] for label, own in zip(names, texts, strict=True)}
    return replace(zero_shot(energy, label, names), column=column, form=form, prompts=prompted)
