"""Images and tokens that were made once, and batches of them.

Shape letters: p images of s pixels a side, t texts of c captions of at most l tokens, n items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.data.batches.order import Order, rngs_at
from tijepa.data.images import normalise
from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import CLS_ID, Tokenizer
from tijepa.evaluate.measure import EvaluationSet
from tijepa.model.text_image_model import TextImageModel

__all__ = ["Held", "batches", "load_array", "pairs_of", "save_array"]

_AHEAD = 4096  # stream positions that are drawn together


@dataclass(frozen=True)
class Held:
    """The training data of a script's runs, and what they are judged on.

    `images` are uint8 (p, s, s, 3), or float32 (p, 3, h, w) where they are inputs already;
    `tokens` (t, c, l) and `lengths` (t, c). An item is a row of `items` (n, 2): its image and its
    text, -1 where it has none. `calibration` are training pairs. `encoders`, where given, puts
    other encoders into a fresh model.
    """

    images: NDArray[np.generic]
    tokens: NDArray[np.integer]
    lengths: NDArray[np.integer]
    items: NDArray[np.integer]
    words: Tokenizer
    calibration: EvaluationSet
    held_out: Mapping[str, EvaluationSet]
    encoders: Callable[[TextImageModel], None] | None = None


def pairs_of(count: int) -> NDArray[np.int32]:
    """Items 0 to `count`, each with the image and the text of its number."""
    return np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, axis=1)


def batches(held: Held, *, batch_size: int, seed: int) -> Iterator[Batch]:
    """The batches of `tijepa.data.batches.loader.Loader` for the same items and seed, without end.

    Images are shown whole, captions drawn, and tokens padded to the longest of the batch.
    """
    order = Order(len(held.items), seed)
    rows = np.empty(0, dtype=np.int64)
    shares = np.empty(0)
    drawn, cursor = 0, 0
    while True:
        while len(rows) < batch_size:
            rows = np.concatenate([rows, order.at(drawn, _AHEAD)])
            new = [draw.caption for draw in rngs_at(seed, drawn, _AHEAD)]
            shares = np.concatenate([shares, new])
            drawn += _AHEAD
        cursor += batch_size
        yield _batch(held, rows[:batch_size], shares[:batch_size], cursor)
        rows, shares = rows[batch_size:], shares[batch_size:]


def _batch(held: Held, rows: NDArray[np.int64], shares: NDArray[np.float64], cursor: int) -> Batch:
    image, text = held.items[rows].T
    caption = (shares * held.tokens.shape[1]).astype(np.int64)
    lengths = np.where(text < 0, 1, held.lengths[text, caption]).astype(np.int64)
    longest = int(lengths.max())
    ids = held.tokens[text, caption, :longest].astype(np.int64)
    mask = np.arange(longest) < lengths[:, None]
    if (text < 0).any():
        ids[text < 0] = 0
        ids[text < 0, 0] = CLS_ID
    found = held.images[image]
    images = torch.from_numpy(found) if found.dtype == np.float32 else normalise(found)
    if (image < 0).any():
        images[torch.from_numpy(image < 0)] = 0.0
    return Batch(
        images=images,
        has_image=torch.from_numpy(image >= 0),
        tokens=torch.from_numpy(ids),
        token_mask=torch.from_numpy(mask),
        has_text=torch.from_numpy(text >= 0),
        indices=torch.from_numpy(rows),
        cursor=cursor,
    )


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one array where `load_array` finds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def load_array(path: Path) -> NDArray[np.generic]:
    """Map an array into memory; all processes share its pages, and nothing is written back."""
    array: NDArray[np.generic] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
