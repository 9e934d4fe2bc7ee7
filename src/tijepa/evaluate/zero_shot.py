"""Zero-shot classification: does the lowest energy among the labels' prompts name the label?

Pure functions of energies. What a model leaves undecided counts against it: labels of equal energy
push the own label down, and so does an energy that is not a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.data.images import prepare
from tijepa.data.pairs import PairSource, StoredImage
from tijepa.data.scenes import Scenes
from tijepa.data.scenes.shapes import SHAPES
from tijepa.data.scenes.world import COLOURS
from tijepa.data.store.source import StoreSource
from tijepa.errors import ConfigError, DataError
from tijepa.inference.results import LabelScore, ZeroShot
from tijepa.model.saving import ModelCard

_TOP = 5


def zero_shot(
    energy: Float[Tensor, "i l"], label: Int[Tensor, " i"], names: Sequence[str]
) -> ZeroShot:
    """Score i images, whose right label is column `label[k]`, among l labels called `names`."""
    items, labels = energy.shape
    assert items > 0
    assert labels == len(names), (labels, len(names))
    own = energy.gather(1, label[:, None])
    rank = (~(energy > own)).sum(dim=1)  # 1 is best; its own label supplies the 1
    right = rank == 1
    guess = energy.nan_to_num(nan=torch.inf).argmin(dim=1)
    scores = tuple(_score(k, names, label, right, guess) for k in range(labels))
    known = [score.top_1 for score in scores if score.top_1 is not None]
    return ZeroShot(
        top_1=_share(right),
        top_5=_share(rank <= _TOP) if labels > _TOP else None,
        mean_per_label=sum(known) / len(known),
        chance=1 / labels,
        majority=max(score.items for score in scores) / items,
        items=items,
        labels=scores,
    )


def _score(k: int, names: Sequence[str], label: Tensor, right: Tensor, guess: Tensor) -> LabelScore:
    mine = label == k
    wrong = Counter(guess[mine & ~right & (guess != k)].tolist())
    return LabelScore(
        label=names[k],
        items=int(mine.sum()),
        top_1=_share(right[mine]) if bool(mine.any()) else None,
        taken_for=names[wrong.most_common(1)[0][0]] if wrong else None,
    )


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


# Which words stand for a label: templates, or prompts of its own from a YAML file.
#
# templates: ["a photo of a {}.", "a drawing of a {}."]
# names: {n02084071: dog}            # optional: what a value is called in the templates
# labels: {dog: ["a dog", "a puppy"]}  # instead of templates: all prompts of every label


_PLACE = "{}"
_PHOTOS = ("a photo of a {}.", "an image of a {}.", "{}")
_SCENES = {  # as the captions of scenes put it: every object by its colour and shape
    "colour": tuple(f"a {{}} {shape}" for shape in SHAPES),
    "shape": tuple(f"a {colour} {{}}" for colour in COLOURS),
    "size": tuple(f"a {{}} {colour} {shape}" for colour in COLOURS for shape in SHAPES),
}


@dataclass(frozen=True)
class Prompts:
    """Templates with names of values, or the prompts of every label themselves."""

    templates: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, values: Sequence[str]) -> dict[str, list[str]]:
        """The prompts of each label: of `labels` where they are given, else of each value."""
        if self.labels:
            return {label: list(own) for label, own in self.labels.items()}
        return {
            value: [t.replace(_PLACE, self.names.get(value, value)) for t in self.templates]
            for value in values
        }


def default_prompts(column: str, *, scenes: bool) -> Prompts:
    """What is used without a file: the wording of scenes, or of photos."""
    return Prompts(templates=_SCENES[column] if scenes else _PHOTOS)


def read_prompts(path: Path) -> Prompts:
    """Read a YAML file of the form above; `ConfigError` in one line where it has another."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is no YAML: {reason}") from None
    if not isinstance(found, dict) or not found.keys() & {"templates", "labels"}:
        raise ConfigError(f"{path} has neither templates nor labels: give one of them")
    unknown = found.keys() - {"templates", "names", "labels"}
    if unknown:
        key = sorted(map(str, unknown))[0]
        raise ConfigError(f"{path}: '{key}' is unknown; known: templates, names, labels")
    if "labels" in found and len(found) > 1:
        raise ConfigError(f"{path}: labels hold all prompts, so templates and names do nothing")
    if "labels" in found:
        return Prompts(labels=_labels(found["labels"], path))
    templates = _texts(found["templates"], "templates", path)
    for template in templates:
        if _PLACE not in template:
            raise ConfigError(f"{path}: template '{template}' has no {{}} for the label")
    names = found.get("names", {})
    if not isinstance(names, dict):
        raise ConfigError(f"{path}: names is {names!r}; give a mapping from value to name")
    return Prompts(templates=templates, names={str(k): str(v) for k, v in names.items()})


def _labels(found: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{path}: labels is {found!r}; give a mapping from label to prompts")
    return {str(label): _texts(own, f"label '{label}'", path) for label, own in found.items()}


def _texts(found: Any, what: str, path: Path) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, list) or not found or any(not isinstance(t, str) for t in found):
        raise ConfigError(f"{path}: {what} is {found!r}; give a list of one or more strings")
    return tuple(found)


# Images with a label: the items of a split whose column has a value, or scenes of one object.


SCENE_COLUMNS = ("colour", "shape", "size")  # of scenes of one object

_AT_ONCE = 64  # items read together
_SCENES_labelled = 1 << 24  # of which about 15 % have one object


@dataclass(frozen=True)
class LabelledImages:
    """Images ready to encode and the value of each."""

    images: Float[Tensor, "i 3 s s"]
    values: list[str]


def labelled_images(source: PairSource, column: str, card: ModelCard, items: int) -> LabelledImages:
    """The first `items` images whose `column` has a value; unreadable ones are left out.

    Columns of scenes are colour, shape and size of the object, of the split's scenes that have one
    object; there are few of different content, so content may repeat. Raises `DataError` where
    there is no such column, no image with a value, or a value that is no label.
    """
    pairs = _of_scenes(source, column) if isinstance(source, Scenes) else _of_rows(source, column)
    images, values = [], []
    for value, image in pairs:
        try:
            pixels = image.pixels(card.image_size)
        except DataError:  # listed as skipped when a batch needs it
            continue
        images.append(prepare(pixels, card.image_size, card.mean, card.std))
        values.append(_label(value, column))
        if len(images) == items:
            break
    if not images:
        raise DataError(f"no image of this split has a value in column '{column}': name another")
    return LabelledImages(torch.stack(images), values)


def _of_scenes(source: Scenes, column: str) -> Iterator[tuple[Any, StoredImage]]:
    if column not in SCENE_COLUMNS:
        raise DataError(
            f"column '{column}' is unknown in scenes; known: {', '.join(SCENE_COLUMNS)}"
        )
    stream = Scenes(source.split, _SCENES_labelled, source.seed, source.image_size)
    for index in range(_SCENES_labelled):
        things = stream.scene(index).objects
        image = stream.read([index])[0].image if len(things) == 1 else None
        if image is not None:
            yield getattr(things[0], column), image


def _of_rows(source: PairSource, column: str) -> Iterator[tuple[Any, StoredImage]]:
    if not isinstance(source, StoreSource) or column not in source.columns:
        columns = source.columns if isinstance(source, StoreSource) else ()
        known = f"known: {', '.join(columns)}" if columns else "it has no columns of its own"
        raise DataError(f"column '{column}' is unknown in this source; {known}")
    indexes = iter(range(len(source)))
    while part := list(islice(indexes, _AT_ONCE)):
        values = source.extra(column, part)
        for value, item in zip(values, source.read(part), strict=True):
            if value is not None and item.image is not None:
                yield value, item.image


def _label(value: Any, column: str) -> str:
    if not isinstance(value, (str, int)):  # bool is an int
        raise DataError(
            f"column '{column}' holds {value!r}: labels are strings, whole numbers, true or false"
        )
    return str(value)
