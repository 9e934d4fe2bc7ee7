"""The tokenizer of a run, learned from its training captions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tijepa.data.order import Order
from tijepa.data.pairs import PairSource
from tijepa.data.tokenizer import Tokenizer

__all__ = ["learn_vocabulary"]

CAPTIONS = 100_000  # more change the vocabulary little and take minutes
_AT_ONCE = 1000  # items whose captions are read together


def learn_vocabulary(source: PairSource, vocab_size: int, *, needs_text: bool = True) -> Tokenizer:
    """Train a tokenizer on the captions of `source`, on 100,000 from all over it if it has more.

    A function of the source alone. Raises `DataError` where no caption holds a word though some
    task reads text.
    """
    return Tokenizer.train(islice(_captions(source), CAPTIONS), vocab_size, wordless=not needs_text)


def _captions(source: PairSource) -> Iterator[str]:
    order = Order(len(source), seed=0)
    count = min(len(source), CAPTIONS)
    for start in range(0, count, _AT_ONCE):
        indexes = order.at(start, min(_AT_ONCE, count - start)).tolist()
        for texts in source.texts(indexes):
            yield from texts
