"""The embedded scenes, rendered, worded and tokenized once for all runs of a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from grid.held import Held, load_array, pairs_of, save_array
from tijepa.data.images import normalise
from tijepa.data.pairs import Item, PairSource
from tijepa.data.scenes import Scenes
from tijepa.data.tokenizer import Tokenizer
from tijepa.evaluate.measure import CALIBRATION_PAIRS, EvaluationSet, evaluation_set
from tijepa.training.backbones import learn_vocabulary

__all__ = ["IMAGE_SIZE", "MAX_TOKENS", "keep_scenes", "open_scenes", "opened", "store"]

IMAGE_SIZE = 64
MAX_TOKENS = 48
_VOCABULARY = 4096


class _Texts(PairSource):
    """Captions alone, for learning a vocabulary."""

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [Item(texts, None) for texts in self.texts(indexes)]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [tuple(self._captions[i]) for i in indexes]

    def item_id(self, index: int) -> str:
        return str(index)


def keep_scenes(folder: Path, *, items: int, held_out: int) -> None:
    """Make `items` training scenes with five captions each; runs are judged on `held_out`."""
    scenes = Scenes("train", items)
    images = np.empty((items, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    captions: list[tuple[str, ...]] = []
    for index in range(items):
        item = scenes.read([index])[0]
        assert item.image is not None
        images[index] = item.image.pixels(IMAGE_SIZE)
        captions.append(item.captions)
    store(folder, images, captions)
    (folder / "held_out.json").write_text(json.dumps(held_out))


def store(folder: Path, images: np.ndarray, captions: Sequence[Sequence[str]]) -> None:
    """Write n images, uint8 (n, s, s, 3), n texts of equally many captions, and their words."""
    tokenizer = learn_vocabulary(_Texts(captions), _VOCABULARY)
    each = len(captions[0])
    tokens = tokenizer.encode([text for texts in captions for text in texts], MAX_TOKENS)
    longest = tokens.ids.shape[1]
    save_array(folder / "images.npy", images)
    save_array(
        folder / "tokens.npy", tokens.ids.numpy().astype(np.uint16).reshape(-1, each, longest)
    )
    save_array(
        folder / "lengths.npy", tokens.mask.sum(1).numpy().astype(np.uint8).reshape(-1, each)
    )
    known = [list(texts) for texts in captions[:CALIBRATION_PAIRS]]
    (folder / "captions.json").write_text(json.dumps(known))
    tokenizer.save(folder / "tokenizer.json")


@cache
def open_scenes(folder: Path) -> Held:
    """What `keep_scenes` made, and the validation and test splits."""
    count = json.loads((folder / "held_out.json").read_text())
    held_out = {
        split: evaluation_set(
            Scenes(split, count, distinct=True), items=count, captions=1, image_size=IMAGE_SIZE
        )
        for split in ("validation", "test")
    }
    return opened(folder, held_out)


def opened(folder: Path, held_out: dict[str, EvaluationSet]) -> Held:
    """What `store` wrote, to be judged on `held_out`."""
    images = load_array(folder / "images.npy")
    known: list[list[str]] = json.loads((folder / "captions.json").read_text())
    own = torch.arange(len(known))
    return Held(
        images=images,
        tokens=load_array(folder / "tokens.npy"),
        lengths=load_array(folder / "lengths.npy"),
        items=pairs_of(len(images)),
        words=Tokenizer.load(folder / "tokenizer.json"),
        calibration=EvaluationSet(
            normalise(images[: len(known)]),
            [text for texts in known for text in texts],
            own.repeat_interleave(len(known[0])),
            own.tolist(),
        ),
        held_out=held_out,
    )
