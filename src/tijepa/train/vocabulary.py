"""The tokenizer of a run, learned from its training captions."""

from __future__ import annotations

from itertools import islice

from tijepa.data.order import Order
from tijepa.data.pairs import PairSource
from tijepa.data.tokenizer import Tokenizer

__all__ = ["learn_vocabulary"]

CAPTIONS = 100_000  # more change the vocabulary little and take minutes


def learn_vocabulary(source: PairSource, vocab_size: int, *, needs_text: bool = True) -> Tokenizer:
    """Train a tokenizer on the captions of `source`, on 100,000 from all over it if it has more.

    A function of the source alone. Raises `DataError` where no caption holds a word though some
    task reads text.
    """
    order = Order(len(source), seed=0).at(0, min(len(source), CAPTIONS)).tolist()
    captions = (caption for index in order for caption in source.captions(index))
    return Tokenizer.train(islice(captions, CAPTIONS), vocab_size, wordless=not needs_text)
