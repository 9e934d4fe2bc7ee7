from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.batches.loader import Loader
from tijepa.data.batches.order import Order
from tijepa.data.pairs import Batch, Item, PairSource, Rejected, StoredImage
from tijepa.data.tokenizer import CLS_ID, Tokenizer
from tijepa.errors import ConfigError, DataError

SIZE = 8
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TOKENIZER = Tokenizer.train([" ".join(WORDS)] * 3, 200)


class Numbers(PairSource):
    """Item i is an image whose red channel is i everywhere, with three captions."""

    def __init__(
        self,
        count: int,
        broken: frozenset[int] = frozenset(),
        without_image: frozenset[int] = frozenset(),
        without_text: frozenset[int] = frozenset(),
        noise: bool = False,
    ) -> None:
        self._count = count
        self.broken = broken
        self._without_image = without_image
        self._without_text = without_text
        self.noise = noise

    def __len__(self) -> int:
        return self._count

    def item_id(self, index: int) -> str:
        return f"number {index}"

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [
            Item(texts, None if i in self._without_image else Number(self, i))
            for i, texts in zip(indexes, self.texts(indexes), strict=True)
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        words = {i: " ".join(WORDS[int(digit)] for digit in str(i)) for i in indexes}
        return [
            ()
            if i in self._without_text
            else (words[i], f"{words[i]} one", f"{words[i]} two three")
            for i in indexes
        ]

    def pixels(self, index: int, min_side: int) -> np.ndarray:
        if index in self.broken:
            raise DataError("pixels fell off")
        if self.noise:
            return np.random.default_rng(index).integers(0, 256, (12, 15, 3), dtype=np.uint8)
        pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
        pixels[:, :, 0] = index % 256
        return pixels


@dataclass(frozen=True)
class Number(StoredImage):
    source: Numbers
    index: int

    def pixels(self, min_side: int) -> np.ndarray:
        return self.source.pixels(self.index, min_side)


def loader(source: PairSource, **options: object) -> Loader:
    settings = {
        "batch_size": 4,
        "image_size": SIZE,
        "max_tokens": 12,
        "seed": 0,
        "threads": 0,
        **options,
    }
    return Loader(source, TOKENIZER, **settings)  # type: ignore[arg-type]


def take(source: PairSource, count: int, **options: object) -> list[Batch]:
    with loader(source, **options) as batches:
        return list(islice(batches, count))


def rows(batches: list[Batch]) -> list[tuple[object, ...]]:
    """Each row of each batch as comparable values, padding dropped."""
    return [
        (
            int(batch.indices[i]),
            batch.images[i].numpy().tobytes(),
            tuple(batch.tokens[i][batch.token_mask[i]].tolist()),
            bool(batch.has_image[i]),
            bool(batch.has_text[i]),
        )
        for batch in batches
        for i in range(len(batch))
    ]


MIXED = Numbers(
    23,
    broken=frozenset({3, 11}),
    without_image=frozenset({5}),
    without_text=frozenset({7}),
    noise=True,
)
AUGMENT: dict[str, object] = {"crop_scale": (0.3, 1.0), "flip": True}


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31 - 1),
    stop=st.integers(0, 12),
    threads=st.integers(0, 2),
    augment=st.booleans(),
)
def test_resuming_at_any_cursor_continues_the_same_stream(
    seed: int, stop: int, threads: int, augment: bool
) -> None:
    options = {"seed": seed, **(AUGMENT if augment else {})}
    whole = take(MIXED, 14, **options)
    cursor = whole[stop - 1].cursor if stop else 0
    resumed = take(MIXED, 14 - stop, cursor=cursor, threads=threads, **options)
    assert rows(resumed) == rows(whole[stop:])
    assert [batch.cursor for batch in resumed] == [batch.cursor for batch in whole[stop:]]


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31 - 1), world=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_ranks_together_hold_the_global_batch(seed: int, world: int) -> None:
    options = {"seed": seed, "batch_size": 12, **AUGMENT}
    whole = take(MIXED, 4, **options)
    parts = [take(MIXED, 4, rank=rank, world=world, **options) for rank in range(world)]
    for number, batch in enumerate(whole):
        assert rows([part[number] for part in parts]) == rows([batch])
        assert {part[number].cursor for part in parts} == {batch.cursor}


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31 - 1),
    batch=st.sampled_from([6, 12, 18]),
    stops=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)),
    lookahead=st.integers(0, 3),
    threads=st.integers(0, 2),
    device=st.booleans(),
)
def test_resuming_with_1_then_3_then_2_processes_serves_each_pair_once(
    seed: int, batch: int, stops: tuple[int, int, int], lookahead: int, threads: int, device: bool
) -> None:
    """Each stretch is killed after some batches; what its ranks fetched beyond them is lost.

    In the first 23 positions, one epoch, every sound item stands once. 3 and 11 are broken, so two
    rows are replacements; the other 21 are the other 21 items.
    """
    options = {
        "seed": seed,
        "batch_size": batch,
        "augment": "device" if device else "host",
        **AUGMENT,
    }
    whole = rows(take(MIXED, sum(stops), **options))
    served: list[tuple[object, ...]] = []
    cursor = 0
    for world, stop in zip((1, 3, 2), stops, strict=True):
        ranks = [
            take(
                MIXED,
                stop + lookahead,
                rank=rank,
                world=world,
                cursor=cursor,
                threads=threads,
                **options,
            )
            for rank in range(world)
        ]
        for number in range(stop):
            parts = [rank[number] for rank in ranks]
            assert len({part.cursor for part in parts}) == 1
            served += rows(parts)
            cursor = parts[0].cursor
    assert cursor == batch * sum(stops)
    assert served == whole
    if len(served) >= 23:
        order = Order(23, seed).at(0, 23).tolist()
        sound = [row[0] for row, item in zip(served, order, strict=False) if item not in (3, 11)]
        assert sorted(sound) == [item for item in range(23) if item not in (3, 11)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_change_batches(threads: int) -> None:
    assert rows(take(MIXED, 20, threads=threads, **AUGMENT)) == rows(take(MIXED, 20, **AUGMENT))


def test_each_epoch_shows_every_item_once() -> None:
    indices = torch.cat([batch.indices for batch in take(Numbers(20), 10)])
    assert sorted(indices[:20].tolist()) == list(range(20))
    assert sorted(indices[20:].tolist()) == list(range(20))
    assert indices[:20].tolist() != indices[20:].tolist()


def test_images_belong_to_their_indices_and_captions() -> None:
    """Red of item i is 2 i / 255 - 1; green and blue are 0, that is -1."""
    for batch in take(Numbers(40), 10):
        expected = batch.indices.float() * 2 / 255 - 1
        assert torch.allclose(batch.images[:, 0], expected[:, None, None].expand(-1, SIZE, SIZE))
        assert (batch.images[:, 1:] == -1).all()
        for i, index in enumerate(batch.indices.tolist()):
            ids = batch.tokens[i][batch.token_mask[i]].tolist()
            texts = Numbers(40).captions(index)
            assert ids in [TOKENIZER.encode([text], 12).ids[0].tolist() for text in texts]


def test_captions_are_drawn_anew_and_evenly() -> None:
    """One item, 600 draws among three captions of lengths 2, 3, 4: 200 each, deviation 11.5."""
    lengths = Counter(
        length for batch in take(Numbers(1), 150) for length in batch.token_mask.sum(1).tolist()
    )
    assert set(lengths) == {2, 3, 4}
    assert all(abs(count - 200) < 58 for count in lengths.values())


def test_items_without_image_or_text_are_marked_and_harmless() -> None:
    source = Numbers(8, without_image=frozenset({1}), without_text=frozenset({2}))
    seen = 0
    for batch in take(source, 2):
        assert torch.equal(batch.has_image, batch.indices != 1)
        assert torch.equal(batch.has_text, batch.indices != 2)
        assert (batch.images[~batch.has_image] == 0).all()
        without_text = batch.tokens[~batch.has_text]
        assert (without_text[:, :1] == CLS_ID).all()
        assert (batch.token_mask[~batch.has_text].sum(1) == 1).all()
        assert batch.token_mask[:, 0].all()
        seen += int((~batch.has_image).sum()) + len(without_text)
    assert seen == 2


def test_flips_mirror_half_of_the_images() -> None:
    """256 draws: 128 expected, deviation 8."""
    source = Numbers(64, noise=True)
    plain, flipped = take(source, 64), take(source, 64, flip=True)
    count = 0
    for a, b in zip(plain, flipped, strict=True):
        for i in range(len(a)):
            mirrored = torch.equal(b.images[i], a.images[i].flip(-1))
            assert mirrored or torch.equal(b.images[i], a.images[i])
            count += mirrored
    assert 88 < count < 168


def test_broken_items_are_replaced_and_listed_once() -> None:
    source = Numbers(12, broken=frozenset({4, 9}))
    with loader(source) as batches:
        indices = torch.cat([batch.indices for batch in islice(batches, 9)])
        assert not set(indices.tolist()) & {4, 9}
        assert sorted(batches.rejected, key=lambda entry: entry.item) == [
            Rejected("number 4", "pixels fell off"),
            Rejected("number 9", "pixels fell off"),
        ]
    whole = torch.cat([batch.indices for batch in take(Numbers(12), 9)])
    sound = (whole != 4) & (whole != 9)
    assert torch.equal(indices[sound], whole[sound])


@pytest.mark.parametrize("threads", [0, 2])
def test_a_source_of_broken_items_is_an_error_that_names_one(threads: int) -> None:
    with pytest.raises(DataError, match=r"item number \d is broken \(pixels fell off\)"):
        take(Numbers(6, broken=frozenset(range(6))), 1, threads=threads)


class Fickle(Numbers):
    """Small crops of odd items cannot be decoded, so an item is broken at some draws only."""

    def pixels(self, index: int, min_side: int) -> np.ndarray:
        if index % 2 and min_side > 12:
            raise DataError("too fine")
        return super().pixels(index, min_side)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_replacement_does_not_depend_on_what_was_found_broken_before(threads: int) -> None:
    """So each batch alone, by a loader that knows nothing yet, equals that of the long run.

    A crop of a share of 0.3 to 1 asks for 8 / sqrt(share * 3/4) = 10 to 17 pixels.
    """
    source = Fickle(9, noise=True)
    options = {"crop_scale": (0.3, 1.0), "seed": 5}
    together = take(source, 30, threads=threads, **options)
    alone = [take(source, 1, cursor=4 * number, **options)[0] for number in range(30)]
    assert rows(together) == rows(alone)
    order = Order(9, 5).at(0, 120).tolist()
    found = torch.cat([batch.indices for batch in together]).tolist()
    replaced = {a for a, b in zip(order, found, strict=True) if a != b}
    kept = {a for a, b in zip(order, found, strict=True) if a == b}
    assert replaced & kept, "some item must be broken at one draw and sound at another"


class Faulty(Numbers):
    """A reader with a bug."""

    def pixels(self, index: int, min_side: int) -> np.ndarray:
        if index == 2:
            raise RuntimeError("bug in a reader")
        return super().pixels(index, min_side)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_other_exceptions_surface_with_the_name_of_the_item(threads: int) -> None:
    with pytest.raises(RuntimeError, match="bug in a reader") as caught:
        take(Faulty(8), 2, threads=threads)
    assert caught.value.__notes__ == ["while preparing item number 2 (number 2)"]


class Deadly(Numbers):
    """A decoder that ends its thread."""

    def pixels(self, index: int, min_side: int) -> np.ndarray:
        if index == 2:
            raise SystemExit("out of memory")
        return super().pixels(index, min_side)


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.timeout(20)
def test_what_ends_a_thread_ends_the_iterator_and_names_the_item(threads: int) -> None:
    with pytest.raises(SystemExit, match="out of memory") as caught:
        take(Deadly(8), 2, threads=threads)
    assert caught.value.__notes__ == ["while preparing item number 2 (number 2)"]


class Unreachable(Numbers):
    """A store whose second batch cannot be read."""

    reads = 0

    def read(self, indexes: Sequence[int]) -> list[Item]:
        self.reads += 1
        if self.reads == 2:
            raise DataError("the disk is gone")
        return super().read(indexes)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_store_that_cannot_be_read_is_no_broken_item(threads: int) -> None:
    """Replacing every item of a batch would hide that the storage is gone."""
    order = Order(8, 0).at(4, 4).tolist()
    with pytest.raises(DataError, match="the disk is gone") as caught:
        take(Unreachable(8), 3, threads=threads)
    numbers = ", ".join(map(str, order))
    assert caught.value.__notes__ == [f"while reading the items number {numbers} of the source"]


class Once(Numbers):
    """Counts accesses to the storage."""

    reads = 0

    def read(self, indexes: Sequence[int]) -> list[Item]:
        self.reads += 1
        return super().read(indexes)


def test_the_storage_is_asked_once_for_a_batch() -> None:
    source = Once(40)
    take(source, 5)
    assert source.reads == 5


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tijepa-loader")]


@pytest.mark.parametrize("threads", [0, 2])
def test_going_back_serves_the_same_batches_again_without_old_threads(threads: int) -> None:
    with loader(Numbers(20), threads=threads) as batches:
        first = list(islice(batches, 4))
        batches.seek(first[0].cursor)
        assert loader_threads() == []
        again = list(islice(batches, 3))
    assert [batch.cursor for batch in again] == [batch.cursor for batch in first[1:]]
    for one, other in zip(first[1:], again, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("way", ["close", "context", "garbage", "error", "break"])
def test_no_thread_remains_afterwards(way: str) -> None:
    batches = loader(Faulty(8) if way == "error" else Numbers(8), threads=2)
    if way == "context":
        with batches:
            next(iter(batches))
    elif way == "break":
        for _ in batches:
            assert loader_threads()
            break
    elif way == "error":
        with pytest.raises(RuntimeError):
            list(islice(batches, 3))
    else:
        iterator: Iterator[Batch] | None = iter(batches)
        assert iterator is not None
        next(iterator)
        assert loader_threads()
        if way == "close":
            batches.close()
            with pytest.raises(StopIteration):
                next(iterator)
        iterator = None
    gc.collect()
    assert loader_threads() == []


class Counting(Numbers):
    """Counts how many images were read."""

    reads = 0

    def pixels(self, index: int, min_side: int) -> np.ndarray:
        self.reads += 1
        return super().pixels(index, min_side)


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_are_made_ahead_but_not_without_bound(threads: int) -> None:
    """Beside the k batches of 4 handed out at most 2 are made ahead, whatever the threads."""
    source = Counting(100)
    with loader(source, threads=threads) as batches:
        iterator = iter(batches)
        for handed in (1, 2, 3):
            next(iterator)
            deadline = time.monotonic() + 5
            while source.reads < 4 * (handed + 2) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.05)
            assert source.reads == 4 * (handed + 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "world": 2}, "batch_size is 5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world": 2}, "rank is 2"),
        ({"cursor": -1}, "cursor -1"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale is"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale is"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loader(Numbers(4), **options)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match="no items"):
        loader(Numbers(0))


def test_pixels_are_normalised_by_channel() -> None:
    """Red of item i is i / 255, less 0.4, in units of 0.2; green and blue are 0."""
    mean, std = (0.4, 0.5, 0.1), (0.2, 0.25, 0.5)
    options = {"mean": mean, "std": std}
    batch = take(Numbers(40), 1, **options)[0]
    red = (batch.indices.double() / 255 - 0.4) / 0.2
    assert torch.allclose(batch.images[:, 0, 0, 0].double(), red, atol=1e-6)
    assert torch.allclose(batch.images[:, 1:, 0, 0], torch.tensor([-2.0, -0.2]).expand(4, 2))
