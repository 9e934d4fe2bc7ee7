from __future__ import annotations

from collections.abc import Sequence

import pytest

from tijepa.data.pairs import Item, PairSource
from tijepa.training import backbones as vocabulary
from tijepa.training.backbones import learn_vocabulary


class Words(PairSource):
    """Two captions an item; the second half of the items has a word of its own."""

    def __len__(self) -> int:
        return 200

    def item_id(self, index: int) -> str:
        return str(index)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        raise AssertionError("a vocabulary needs no image")

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [("common", "early" if i < 100 else "later") for i in indexes]


def pieces(words: str, bound: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(vocabulary, "CAPTIONS", bound)
    return int(learn_vocabulary(Words(), 64).encode([words], 64).mask.sum()) - 1


def test_every_caption_counts_where_there_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pieces("common early later", 400, monkeypatch) == 3


def test_beyond_the_bound_captions_come_from_all_over_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first 20 captions in order would hold no `later`."""
    assert pieces("common early later", 20, monkeypatch) == 3


def test_one_caption_teaches_no_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on captions, not items: with one, no pair of letters occurs twice."""
    assert pieces("early", 1, monkeypatch) == 5
