"""Fit a classifier of a store's labels on a run's model, or probe that model; cross-validated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.classify.features import Labelled, Parts, item_features, labelled_examples, out_of_fold
from tijepa.classify.finetune import Tune, Tuning, check_tune, fine_tune
from tijepa.classify.labels import Items, Side, read_items
from tijepa.classify.saved import Classifier, classifier_folder, save_classifier
from tijepa.data.features import StoreFeatures
from tijepa.errors import ConfigError
from tijepa.evaluate.probes import (
    Examples,
    Head,
    Linear,
    Perceptron,
    fit_linear,
    fit_neighbours,
    fit_perceptron,
)
from tijepa.evaluate.scores import score
from tijepa.inference.embedder import Embedder
from tijepa.io.progress import SILENT, Reporter

HeadKind = Literal["linear", "mlp"]


@dataclass(frozen=True)
class FitOptions:
    """What `tijepa classify fit` takes, with its defaults.

    `folds` 0 measures nothing but a labelled split `test`. `same_text` makes items with equal texts
    copies of each other, which no fold may tear apart.
    """

    split: str = "train"
    side: Side = "pair"
    head: HeadKind = "linear"
    parts: Parts = "both"
    folds: int = 5
    balanced: bool = False
    tuning: Tuning | None = None
    same_text: bool = True
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigError` for what is out of bounds or without effect."""
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"folds is {self.folds}: it must be 0 (none) or at least 2")
        tune: Tune | None = None if self.tuning is None else self.tuning.tune
        check_tune(tune, self.side)
        if tune is not None and self.head != "linear":
            raise ConfigError("`tuning` has a linear head: leave out `head`, or `tuning`")


def fit_classifier(
    run: Path,
    store: str,
    label: str,
    *,
    name: str | None = None,
    checkpoint: str | None = None,
    replace: bool = False,
    options: FitOptions | None = None,
    reporter: Reporter = SILENT,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Fit, measure, and keep the classifier as `RUN/classifiers/NAME`; returns its results.

    Cross-validation fits a head for every fold without the fold's items, settings included, and
    judges it on them; the classifier that is kept is then fitted to all labelled items of the
    split. A split `test` with labels, if it is not the one that is fitted to, is measured with that
    classifier. Raises `DataError`, `ConfigError` and `CheckpointError`.
    """
    options = options or FitOptions()
    options.check()
    folder = classifier_folder(run, label if name is None else name)
    if folder.exists() and not replace:
        raise ConfigError(f"{folder} exists: choose another `name`, or `replace=True`")
    known = labelled_examples(
        run,
        store,
        label,
        split=options.split,
        side=options.side,
        parts=options.parts,
        same_text=options.same_text,
        checkpoint=checkpoint,
        reporter=reporter,
        device=device,
    )
    splits, items, classes = known.splits, known.items, known.classes
    fitting = _Fitting(known, options, reporter)
    results: dict[str, Any] = {
        "label": label,
        "classes": classes,
        "data": splits.description,
        "split": options.split,
        "items": len(items),
        "copies": len(items) - len(torch.unique(items.group)),
        "unlabelled": known.unlabelled,
        "left_out": items.left_out,
        "on": options.side,
        "head": options.head,
        "features": options.parts,
        "balanced": options.balanced,
        "finetune": None if options.tuning is None else vars(options.tuning),
        "seed": options.seed,
    }
    if options.folds:
        logits = fitting.out_of_fold(options.folds)
        found = score(
            known.examples.labels, logits.argmax(dim=1), len(classes), groups=items.group
        ).to_dict(classes)
        results["cross_validation"] = {"folds": options.folds, **found}
    classifier = fitting.final(label)
    if "test" in splits.splits and options.split != "test":
        unseen = read_items(splits, "test", label, options.side, same_text=options.same_text)
        if len(unseen.labelled):
            # an encoder that was tuned gives features of its own
            cached = known.cached if options.tuning is None else {}
            results["test"] = _measured(classifier, unseen.labelled, cached, reporter)
    save_classifier(
        classifier,
        folder,
        results,
        checkpoint=checkpoint if options.tuning is None else None,
        with_model=options.tuning is not None,
        replace=replace,
    )
    return {**results, "folder": str(folder)}


@dataclass(frozen=True)
class _Fitting:
    """Heads for some of the items: on the features as they are, or by fine-tuning each time."""

    known: Labelled
    options: FitOptions
    reporter: Reporter

    def out_of_fold(self, folds: int) -> Float[Tensor, "n c"]:
        """Logits of every item by a head that was fitted without its fold."""
        examples, items, seed = self.known.examples, self.known.items, self.options.seed
        if self.options.tuning is None:
            text = "cross-validating"
            return out_of_fold(
                examples, self._head, text, folds=folds, seed=seed, reporter=self.reporter
            )
        fold = examples.folds(folds, seed)
        logits = torch.zeros(len(items), examples.classes, dtype=torch.float64)
        for number in range(folds):
            apart = fold == number
            embedder, head = self._tuned(~apart, f"fine-tuning, fold {number + 1} of {folds}")
            unseen = items.where(apart.tolist())
            features = item_features(embedder, unseen, self.options.side, self.options.parts)
            logits[apart] = head.logits(features).double()
        return logits

    def final(self, label: str) -> Classifier:
        """The classifier of all items."""
        embedder: Embedder = self.known.embedder
        head: Linear | Perceptron
        if self.options.tuning is None:
            head = self._head(self.known.examples)
        else:
            every = torch.ones(len(self.known.items), dtype=torch.bool)
            embedder, head = self._tuned(every, "fine-tuning on all items")
        return Classifier(
            embedder, head, label, self.known.classes, self.options.side, self.options.parts
        )

    def _head(self, examples: Examples) -> Linear | Perceptron:
        fit: Callable[..., Linear | Perceptron] = (
            fit_linear if self.options.head == "linear" else fit_perceptron
        )
        return fit(examples, seed=self.options.seed, balanced=self.options.balanced)

    def _tuned(self, some: Bool[Tensor, " n"], text: str) -> tuple[Embedder, Linear]:
        assert self.options.tuning is not None
        items = self.known.items.where(some.tolist())
        total = self.options.tuning.epochs * len(items)
        with self.reporter.bar(text, total) as advance:
            return fine_tune(
                self.known.embedder,
                items,
                self.known.examples.where(some),
                self.options.tuning,
                side=self.options.side,
                parts=self.options.parts,
                balanced=self.options.balanced,
                seed=self.options.seed,
                advance=advance,
            )


def _measured(
    classifier: Classifier, items: Items, cached: StoreFeatures, reporter: Reporter
) -> dict[str, Any]:
    embedder, side, parts = classifier.embedder, classifier.side, classifier.parts
    with reporter.bar("measuring on split test", len(items)) as advance:
        features = item_features(embedder, items, side, parts, advance, cached=cached)
    named = classifier.head.logits(features).argmax(dim=1)
    truth = items.numbers(classifier.classes)
    return score(truth, named, len(classifier.classes), groups=items.group).to_dict(
        classifier.classes
    )


Method = Literal["linear", "knn"]
METHODS: dict[str, Callable[..., Head]] = {"linear": fit_linear, "knn": fit_neighbours}


def probe_run(
    run: Path,
    store: str,
    label: str,
    *,
    side: Side = "pair",
    method: Method = "linear",
    split: str = "train",
    parts: Parts = "both",
    folds: int = 5,
    checkpoint: str | None = None,
    seed: int = 0,
    reporter: Reporter = SILENT,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Scores of a probe on frozen features by cross-validation; keeps and writes nothing.

    Items are those of `read_items`, features those of `item_features`. Raises `DataError`,
    `ConfigError` and `CheckpointError`.
    """
    known = labelled_examples(
        run,
        store,
        label,
        split=split,
        side=side,
        parts=parts,
        checkpoint=checkpoint,
        reporter=reporter,
        device=device,
    )
    items, classes, examples = known.items, known.classes, known.examples

    def fit(some: Examples) -> Head:
        return METHODS[method](some, seed=seed)

    logits = out_of_fold(examples, fit, "probing", folds=folds, seed=seed, reporter=reporter)
    named = logits.argmax(dim=1)
    found = score(examples.labels, named, len(classes), groups=items.group).to_dict(classes)
    return {
        "label": label,
        "classes": classes,
        "data": known.splits.description,
        "split": split,
        "on": side,
        "method": method,
        "features": parts,
        "dimensions": examples.features.shape[1],
        "items": len(items),
        "unlabelled": known.unlabelled,
        "left_out": items.left_out,
        "seed": seed,
        "cross_validation": {"folds": folds, **found},
    }
