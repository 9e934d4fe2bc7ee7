"""Features of frozen encoders, by item and caption, in tables and in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.batches.loader import Loader
from tijepa.data.features import Features, FeatureTable, SplitFeatures
from tijepa.data.pairs import Item, PairSource, StoredImage
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError


def bits(tokens: torch.Tensor) -> np.ndarray:
    return tokens.to(torch.bfloat16).view(torch.uint16).numpy()


def test_rows_are_found_by_item_and_choice() -> None:
    """Items 0 to 2 of 2, 0 and 1 rows; row r has r + 1 tokens of value 1 + r / 512.

    1 + 2 / 512 = 1.00390625 lies between the bfloat16 values 1 and 1.0078125: even wins.
    """
    tokens = torch.tensor([1 + r / 512 for r in range(3) for _ in range(r + 1)])
    arrays = {
        "rows": np.array([2, 0, 1], np.uint32),
        "pooled": np.array([[0, 0.1], [1, 0.1], [2, 0.1]], np.float32),
        "lengths": np.array([1, 2, 3], np.uint32),
        "tokens": bits(tokens[:, None].expand(-1, 4).contiguous()),
    }
    table = FeatureTable(arrays, {1: "no image"})
    assert len(table) == 3
    assert [table.count(item) for item in range(3)] == [2, 0, 1]
    assert not table.pooled_alone
    assert table.pooled(0).tolist() == [[0, np.float32(0.1)], [1, np.float32(0.1)]]
    found = table.take([2, 0, 1, 0], [0, 1, None, 0])
    assert found.pooled.tolist() == [
        [2, np.float32(0.1)],
        [1, np.float32(0.1)],
        [0, 0],
        [0, np.float32(0.1)],
    ]
    assert found.tokens is not None
    assert found.mask is not None
    assert found.mask.sum(dim=1).tolist() == [3, 2, 0, 1]
    assert found.tokens[0].unique().tolist() == [1.0]
    assert found.tokens[3, 1:].abs().sum() == 0


def test_pooled_alone_take_no_tokens() -> None:
    table = FeatureTable({"rows": np.ones(1, np.uint32), "pooled": np.ones((1, 2))}, {})
    assert table.pooled_alone
    assert table.take([0], [0]).tokens is None


@given(
    st.lists(
        st.floats(
            width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**99), max_value=2.0**99
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_a_token_is_off_by_at_most_an_eighth_bit(values: list[float]) -> None:
    """bfloat16 keeps 8 significant bits: rounding moves a normal value by at most 2^-9 of it."""
    exact = torch.tensor(values).reshape(1, -1, 1)
    arrays = {
        "rows": np.ones(1, np.uint32),
        "pooled": np.zeros((1, 1), np.float32),
        "lengths": np.array([len(values)], np.uint32),
        "tokens": bits(exact[0]),
    }
    found = FeatureTable(arrays, {}).take([0], [0]).tokens
    assert found is not None
    assert bool(((found - exact).abs() <= exact.abs() * 2.0**-8 + 1e-38).all())


class Painted(StoredImage):
    """An image of one value; a negative one is broken."""

    def __init__(self, value: int) -> None:
        self.value = value

    def pixels(self, min_side: int) -> np.ndarray:
        if self.value < 0:
            raise DataError("the image is broken")
        return np.full((4, 4, 3), self.value, np.uint8)


class Pairs(PairSource):
    """Item k: k mod 4 captions; every third image is broken, every fifth item has none."""

    def __len__(self) -> int:
        return 20

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [Item(self.texts([k])[0], self.image(k)) for k in indexes]

    def image(self, k: int) -> StoredImage | None:
        return None if k % 5 == 0 else Painted(-1 if k % 3 == 0 else k)

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [tuple(f"dog {'runs ' * n}" for n in range(k % 4)) for k in indexes]

    def item_id(self, index: int) -> str:
        return f"item-{index}"


def tables(source: Pairs) -> SplitFeatures:
    """Feature 100 k + n of caption n of item k, k of image k."""
    images = [source.image(k) for k in range(len(source))]
    sound = [isinstance(p, Painted) and p.value >= 0 for p in images]
    broken = {k: "the image is broken" for k, p in enumerate(images) if p and not sound[k]}
    counts = [len(own) for own in source.texts(range(len(source)))]
    image = {"rows": np.array(sound), "pooled": np.array([[k] for k, s in enumerate(sound) if s])}
    text = {
        "rows": np.array(counts),
        "pooled": np.array([[100 * k + n] for k, count in enumerate(counts) for n in range(count)]),
    }
    return SplitFeatures(FeatureTable(image, broken), FeatureTable(text, {}))


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_hold_the_same_items_and_captions_as_without_features(threads: int) -> None:
    source = Pairs()
    tokenizer = Tokenizer.train(["dog runs runs runs"] * 3, 64)
    arguments = {"batch_size": 10, "image_size": 4, "max_tokens": 8, "seed": 3, "threads": threads}
    plain = Loader(source, tokenizer, **arguments)
    kept = Loader(source, tokenizer, **arguments, features=tables(source))
    with plain, kept:
        for _, first, second in zip(range(5), plain, kept, strict=False):
            assert torch.equal(first.indices, second.indices)
            assert torch.equal(first.tokens, second.tokens)
            assert torch.equal(first.has_image, second.has_image)
            assert torch.equal(first.has_text, second.has_text)
            assert second.images.shape == (10, 3, 0, 0)
            assert second.image_features is not None
            assert second.text_features is not None
            pixel = ((first.images[:, 0, 0, 0] * 0.5 + 0.5) * 255).round() * first.has_image
            assert torch.equal(second.image_features.pooled[:, 0], pixel)
            words = first.token_mask.sum(dim=1) - 2  # without [CLS] and "dog"
            number = (100 * first.indices + words) * first.has_text
            assert torch.equal(second.text_features.pooled[:, 0], number.float())
    assert {item.item for item in plain.rejected} == {item.item for item in kept.rejected}


def test_features_move_and_roll_row_by_row() -> None:
    features = Features(torch.arange(3.0)[:, None])
    assert features.roll(1).pooled[:, 0].tolist() == [2, 0, 1]
    assert features.rows(slice(1, 3)).pooled[:, 0].tolist() == [1, 2]
    assert len(features.to("cpu")) == 3
