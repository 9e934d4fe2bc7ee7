"""Scenes of 24 captions, and retrieval that counts every image of the same caption as right.

Two objects, their shapes two of four, and one of four relations between them: 6 pairs of shapes
times 4 relations are 24 captions, each said in the same words whenever it fits. Colours, sizes,
places and backgrounds vary freely and are not mentioned. So each caption fits one image in 24,
and of the 63 other captions in a batch of 64 about 2.6 are no negatives at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grid.held import Held, load_array, save_array
from grid.scenes import IMAGE_SIZE, opened, store
from tijepa.data.images import normalise
from tijepa.data.scenes import Scene, Scenes
from tijepa.data.scenes.world import PREDICATES
from tijepa.evaluate.measure import EvaluationSet
from tijepa.inference.embedder import Embedder

__all__ = [
    "CAPTIONS",
    "by_caption",
    "caption_of",
    "caption_to_image",
    "image_to_caption",
    "keep_repeating",
    "open_repeating",
]

SHAPES = ("circle", "square", "star", "triangle")  # in the order in which a caption names them
CAPTIONS = tuple(
    f"a {first} {predicate} a {second}"
    for number, first in enumerate(SHAPES)
    for second in SHAPES[number + 1 :]
    for predicate in PREDICATES
)
GALLERY = 5 * len(CAPTIONS)  # images that a caption is looked for in; five fit on average
_STREAM = 1 << 40  # scenes of a split that may be looked through


def caption_of(scene: Scene) -> str | None:
    """The caption of a scene; None for scenes that are not of this set."""
    if scene.relation is None or len(scene.objects) != 2:
        return None
    first, second = scene.objects[scene.relation.subject], scene.objects[scene.relation.object]
    predicate = scene.relation.predicate
    if first.shape == second.shape or not {first.shape, second.shape} <= set(SHAPES):
        return None
    if SHAPES.index(first.shape) > SHAPES.index(second.shape):
        opposite = {"left of": "right of", "above": "below"}
        opposite |= {other: one for one, other in opposite.items()}
        first, second, predicate = second, first, opposite[predicate]
    return f"a {first.shape} {predicate} a {second.shape}"


def _drawn(split: str) -> Iterator[tuple[np.ndarray, str]]:
    """Images of this set with their captions, in the order of the split's stream."""
    scenes = Scenes(split, _STREAM)
    for number in range(_STREAM):
        caption = caption_of(scenes.numbered(number))
        if caption is not None:
            pixels = scenes.image(number, IMAGE_SIZE)
            assert pixels is not None
            yield pixels, caption


def keep_repeating(folder: Path, *, items: int, held_out: int) -> None:
    """Make `items` images to train on and `held_out` each for validation and test."""
    for split, count in (("train", items), ("validation", held_out), ("test", held_out)):
        images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        captions: list[str] = []
        for row, (pixels, caption) in zip(range(count), _drawn(split), strict=False):
            images[row] = pixels
            captions.append(caption)
        if split == "train":
            store(folder, images, [[caption] for caption in captions])
        else:
            save_array(folder / f"{split}.npy", images)
            (folder / f"{split}.json").write_text(json.dumps(captions))


@cache
def open_repeating(folder: Path) -> Held:
    """What `keep_repeating` made."""
    return opened(folder, {split: _held_out(folder, split) for split in ("validation", "test")})


def _held_out(folder: Path, split: str) -> EvaluationSet:
    captions = json.loads((folder / f"{split}.json").read_text())
    own = torch.arange(len(captions))
    images = normalise(load_array(folder / f"{split}.npy"))
    return EvaluationSet(images, captions, own, own.tolist())


def by_caption(embedder: Embedder, data: EvaluationSet, name: str) -> dict[str, Any]:
    """Recall at 1 both ways, every image of a caption being right; under `name` their mean."""
    captions = sorted(set(data.texts))
    label = torch.tensor([captions.index(text) for text in data.texts])
    e = embedder.embeddings_of_inputs(data.images, captions)
    ways: dict[str, dict[str, float]] = {}
    for form in dict.fromkeys((embedder.default_form, "cosine")):
        energy = embedder.search_energies_of(e, form)
        ways[form] = {
            "image_to_text": image_to_caption(energy.texts, label),
            "text_to_image": caption_to_image(energy.images, label, GALLERY),
        }
    found = ways[embedder.default_form]
    return {
        name: fmean(found.values()),
        **{f"{name}_{way}": recall for way, recall in found.items()},
        f"{name}_by_form": {form: fmean(of.values()) for form, of in ways.items()},
    }


def image_to_caption(energy: Tensor, label: Tensor) -> float:
    """Share of images (i, c) whose own caption `label` has the one lowest energy."""
    own = energy.gather(1, label[:, None])
    ahead = (~(energy > own)).sum(dim=1)  # itself, ties, and what is not a number
    return float((ahead == 1).double().mean())


def caption_to_image(energy: Tensor, label: Tensor, gallery: int) -> float:
    """Share of captions whose image of lowest energy is one of theirs, over galleries.

    The i images are cut into galleries of at most `gallery`; each caption that fits some image
    of a gallery asks there once, and one that fits all of them does not ask.
    """
    hits: list[bool] = []
    for start in range(0, len(energy), gallery):
        part, own = energy[start : start + gallery], label[start : start + gallery]
        for caption in own.unique().tolist():
            right, wrong = part[own == caption, caption], part[own != caption, caption]
            if len(wrong):
                hits.append(bool(right.min() < wrong.min()))  # False where either is not a number
    return fmean(hits)
