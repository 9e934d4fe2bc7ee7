"""A fitted classifier on disk: `RUN/classifiers/NAME/`, safetensors and JSON, whole or absent."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.classify.features import MAX_BAD, Parts, cached_of, feature_batches
from tijepa.classify.labels import Items, Side, read_items
from tijepa.data import open_splits
from tijepa.data.features import StoreFeatures
from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.evaluate.probes import Affine, Linear, Perceptron, Standard
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import load
from tijepa.io.files import whole, whole_folder
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.pretrained.weights import hash_of_weights
from tijepa.model.saving import load_tensors, read_json, save_model, save_tensors, write_json

FORMAT = 1
_HEADS = {
    "linear": ("mean", "scale", "weight", "bias"),
    "mlp": ("mean", "scale", "hidden", "hidden_bias", "out", "out_bias"),
}


@dataclass(frozen=True)
class Classifier:
    """A head, what it is called, and the model whose features it was fitted to."""

    embedder: Embedder
    head: Linear | Perceptron
    label: str
    classes: list[str]
    side: Side
    parts: Parts

    def probabilities(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        """Probability of each class; features as `item_features` gives them."""
        return self.head.logits(features).double().softmax(dim=1)


def check_name(name: str) -> str:
    """`name` if it can be a folder's; `ConfigError` otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(
            f"name '{name}' cannot name a classifier: use up to 64 letters, digits, '_', '-', '.'"
        )
    return name


def classifier_folder(run: Path, name: str) -> Path:
    """Where the classifier of this name lies or will lie."""
    return run / "classifiers" / check_name(name)


def save_classifier(
    classifier: Classifier,
    folder: Path,
    results: dict[str, Any],
    *,
    checkpoint: str | None,
    with_model: bool,
    replace: bool,
) -> None:
    """Write head and results into a neighbour of `folder`, then rename it.

    `with_model` keeps the encoders as well, because fine-tuning has changed them. Otherwise the
    hash of the run's own model is kept, so that a classifier never meets other encoders unseen.
    Raises `ConfigError` where the folder exists and may not be replaced.
    """
    if folder.exists() and not replace:
        raise ConfigError(f"{folder} exists: choose another `name`, or `replace=True`")
    with whole_folder(folder) as temporary:
        if with_model:
            save_model(classifier.embedder.model, classifier.embedder.card, temporary)
            classifier.embedder.tokenizer.save(temporary / "tokenizer.json")
        save_tensors(_tensors(classifier.head), temporary / "head.safetensors")
        head = classifier.head
        card = {
            "format": FORMAT,
            "head": "linear" if isinstance(head, Linear) else "mlp",
            "setting": head.decay if isinstance(head, Linear) else head.epochs,
            "label": classifier.label,
            "classes": classifier.classes,
            "on": classifier.side,
            "features": classifier.parts,
            "checkpoint": checkpoint,
            "model": None
            if with_model
            else hash_of_weights(classifier.embedder.model.state_dict()),
        }
        write_json(card, temporary / "classifier.json")
        write_json(results, temporary / "results.json")


def load_classifier(
    run: str | Path, name: str, *, device: torch.device | str = "cpu"
) -> Classifier:
    """The classifier called `name` that `tijepa classify fit` left in a run folder.

    Raises `CheckpointError` where there is none, where it is damaged, or where the run's model is
    no longer the one that it was fitted to.
    """
    folder = classifier_folder(Path(run), name)
    if not folder.is_dir():
        held = sorted(p.name for p in folder.parent.glob("[!.]*")) if folder.parent.is_dir() else []
        known = f"it has {', '.join(held)}" if held else "it has none"
        raise CheckpointError(f"no classifier '{name}' in {run}; {known}")
    card = read_json(folder / "classifier.json")
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("head") not in _HEADS:
        raise CheckpointError(f"{folder}/classifier.json is damaged; fit the classifier anew")
    own = (folder / "model.json").exists()
    embedder = load(folder if own else run, checkpoint=card["checkpoint"], device=device)
    if not own and card["model"] != hash_of_weights(embedder.model.state_dict()):
        raise CheckpointError(
            f"the model of {run} has changed since '{name}' was fitted to it: fit it anew"
        )
    head = _head(card, load_tensors(folder / "head.safetensors"), folder)
    return Classifier(
        embedder, head, card["label"], list(card["classes"]), card["on"], card["features"]
    )


def _tensors(head: Linear | Perceptron) -> dict[str, Tensor]:
    found = {"mean": head.standard.mean, "scale": head.standard.scale}
    if isinstance(head, Linear):
        return {**found, "weight": head.affine.weight, "bias": head.affine.bias}
    return {**found, **{name: getattr(head, name) for name in _HEADS["mlp"][2:]}}


def _head(card: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Linear | Perceptron:
    if set(tensors) != set(_HEADS[card["head"]]):
        raise CheckpointError(f"{folder}/head.safetensors is damaged; fit the classifier anew")
    standard = Standard(tensors["mean"], tensors["scale"])
    rest = [tensors[name] for name in _HEADS[card["head"]][2:]]
    if card["head"] == "linear":
        return Linear(standard, Affine(*rest), float(card["setting"]))
    return Perceptron(standard, rest[0], rest[1], rest[2], rest[3], int(card["setting"]))


_FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Prediction:
    """The label of one item and the probability of every class."""

    item: str
    split: str
    label: str
    probabilities: dict[str, float]


def predict_labels(
    run: Path,
    store: str,
    out: Path,
    *,
    name: str,
    split: str | None = None,
    everything: bool = False,
    reporter: Reporter = SILENT,
    device: torch.device | str = "cpu",
) -> dict[str, int]:
    """Write predictions for the items without a label of `split` (of all splits where None).

    With `everything` also for those that have one. `out` ends with .csv (item, split, label,
    probability) or .jsonl (with the probability of every class) and is replaced. An item that lacks
    what the classifier needs gets none. Returns how many were predicted and, by reason, how many
    were left out. Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    if out.suffix not in _FORMATS:
        raise ConfigError(f"`out` {out} ends with neither {' nor '.join(_FORMATS)}: rename it")
    classifier = load_classifier(run, name, device=device)
    splits = open_splits(
        store,
        image_size=classifier.embedder.card.image_size,
        seed=0,
        max_bad=MAX_BAD,
        reporter=reporter,
    )
    names = list(splits.splits) if split is None else [split]
    wanted = []
    for each in names:
        found = read_items(splits, each, classifier.label, classifier.side)
        wanted.append(
            found if everything else found.where([label is None for label in found.labels])
        )
    total = sum(len(items) for items in wanted)
    if total == 0:
        raise DataError(
            f"no item of {splits.description} lacks a label in '{classifier.label}': use"
            " `everything=True`"
        )
    cached = cached_of(classifier.embedder, wanted[0], classifier.side, classifier.parts, reporter)
    with reporter.bar("predicting", total) as advance:
        predictions = []
        for items in wanted:
            for prediction in _predicted(classifier, items, cached):
                predictions.append(prediction)
                advance(1)
    write_predictions(predictions, out)
    counts = {"predicted": total}
    for items in wanted:
        for reason, count in items.left_out.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def write_predictions(predictions: list[Prediction], out: Path) -> None:
    """Write CSV or JSON lines through a temporary neighbour, so that `out` is whole or absent."""
    with whole(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        if out.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(("item", "split", "label", "probability"))
            for p in predictions:
                writer.writerow((p.item, p.split, p.label, f"{p.probabilities[p.label]:.4f}"))
        else:
            for p in predictions:
                file.write(json.dumps(vars(p), ensure_ascii=False) + "\n")


def _predicted(classifier: Classifier, items: Items, cached: StoreFeatures) -> Iterator[Prediction]:
    batches = feature_batches(classifier.embedder, items, classifier.side, classifier.parts, cached)
    rows = (row for features in batches for row in classifier.probabilities(features).tolist())
    for item, row in zip(items.ids, rows, strict=True):
        by_class = dict(zip(classifier.classes, row, strict=True))
        label = max(by_class, key=lambda name: by_class[name])
        yield Prediction(item, items.split, label, by_class)
