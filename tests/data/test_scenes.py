"""The embedded scenes: items depend on (seed, split, index) alone and agree with their truth."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.scenes import SPLIT_SIZES, Scenes, scenes_splits
from tijepa.data.scenes.shapes import SHAPES
from tijepa.data.scenes.world import COLOURS, NOVEL_COMBINATIONS, PREDICATES, SIZES, holds
from tijepa.errors import DataError

SPLITS = tuple(SPLIT_SIZES)
numbers = st.integers(min_value=0, max_value=99_999)
any_split = st.sampled_from(SPLITS)


def looks(source: Scenes, index: int) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in source.scene(index).objects}


@settings(deadline=None, max_examples=30)
@given(split=any_split, index=numbers, seed=st.integers(0, 1000))
def test_item_depends_on_seed_split_and_index_alone(split: str, index: int, seed: int) -> None:
    first = Scenes(split, 100_000, seed)
    expected = (first.scene(index), first.captions(index), first.image(index, 64))
    other = Scenes(split, index + 1, seed)
    other.image(0, 64)
    assert np.array_equal(other.image(index, 1), expected[2])
    assert other.captions(index) == expected[1]
    assert other.scene(index) == expected[0]


def test_loader_threads_get_the_same_items() -> None:
    source = Scenes("test", 60, distinct=True)
    alone = [Scenes("test", 60, distinct=True).image(i, 64) for i in range(60)]
    found: dict[tuple[int, int], np.ndarray] = {}

    def read(thread: int) -> None:
        for i in range(60):
            index = (i * 7 + thread * 13) % 60
            found[thread, index] = source.image(index, 64)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 240
    assert all(np.array_equal(image, alone[index]) for (_, index), image in found.items())


def test_seeds_and_splits_are_disjoint_streams() -> None:
    sources = [
        Scenes(split, 300, seed) for split in ("train", "validation", "test") for seed in (0, 1)
    ]
    scenes = [tuple(source.scene(i).objects) for source in sources for i in range(300)]
    assert len(set(scenes)) == len(scenes)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_image_is_uint8_rgb_of_the_asked_size(size: int) -> None:
    image = Scenes("train", 3, image_size=size).image(2, 8)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_image_size_changes_scale_only() -> None:
    """At 128 pixels every length is twice that at 64, and the sentences stay the same."""
    small, large = Scenes("train", 50, image_size=64), Scenes("train", 50, image_size=128)
    for i in range(50):
        a, b = small.scene(i), large.scene(i)
        assert small.captions(i) == large.captions(i)
        assert a.relation == b.relation
        for thing, twice in zip(a.objects, b.objects, strict=True):
            assert twice.box == pytest.approx([2 * side for side in thing.box])
            assert twice.centre == pytest.approx([2 * part for part in thing.centre])
            assert twice.radius == pytest.approx(2 * thing.radius)


@settings(deadline=None, max_examples=60)
@given(split=any_split, index=numbers)
def test_objects_are_whole_apart_and_of_their_size(split: str, index: int) -> None:
    """Boxes lie inside the image, do not meet, and have longer sides that fit their size."""
    things = Scenes(split, 100_000).scene(index).objects
    spans = {"small": (9.0, 12.7), "medium": (12.7, 18.5), "large": (18.0, 26.0)}
    assert 1 <= len(things) <= 4
    for number, thing in enumerate(things):
        assert thing.shape in SHAPES
        assert thing.colour in COLOURS
        assert thing.size in SIZES
        x0, y0, x1, y1 = thing.box
        assert 1.0 - 1e-9 <= x0 < x1 <= 63.0 + 1e-9
        assert 1.0 - 1e-9 <= y0 < y1 <= 63.0 + 1e-9
        low, high = spans[thing.size]
        assert low <= max(x1 - x0, y1 - y0) <= high
        for other in things[number + 1 :]:
            a0, b0, a1, b1 = other.box
            assert max(x0 - a1, a0 - x1, y0 - b1, b0 - y1) >= 1.0 - 1e-9


@settings(deadline=None, max_examples=60)
@given(split=any_split, index=numbers)
def test_relation_is_true_by_a_clear_margin_and_the_only_one(split: str, index: int) -> None:
    scene = Scenes(split, 100_000).scene(index)
    if len(scene.objects) == 1:
        assert scene.relation is None
        return
    assert scene.relation is not None
    first, second = scene.objects[scene.relation.subject], scene.objects[scene.relation.object]
    right = second.centre[0] - first.centre[0]
    down = second.centre[1] - first.centre[1]
    toward = {"left of": right, "right of": -right, "above": down, "below": -down}
    assert max(toward, key=lambda name: toward[name]) == scene.relation.predicate
    assert toward[scene.relation.predicate] > 8.0
    assert [name for name in PREDICATES if holds(name, first.box, second.box)] == [
        scene.relation.predicate
    ]


def test_holds_wants_disjoint_boxes_and_a_leading_axis() -> None:
    """Centres (5, 5) and (25, 5): 20 right, 0 down, so left of. Moving the second down by 13 makes
    20 < 1.5 x 14 = 21 at 14 and 20 >= 1.5 x 13 = 19.5 at 13: the bound lies between.
    """
    box = (0.0, 0.0, 10.0, 10.0)
    assert holds("left of", box, (20.0, 13.0, 30.0, 23.0))
    assert not holds("left of", box, (20.0, 14.0, 30.0, 24.0))
    assert not holds("above", box, (20.0, 14.0, 30.0, 24.0))
    assert not holds("left of", box, (9.0, 0.0, 19.0, 10.0))  # boxes overlap on the axis
    assert holds("right of", (20.0, 0.0, 30.0, 10.0), box)
    assert holds("above", box, (0.0, 10.0, 10.0, 20.0))
    assert holds("below", (0.0, 10.0, 10.0, 20.0), box)


def test_held_out_combinations_occur_in_novel_alone_and_in_each_of_its_scenes() -> None:
    held_out = set(NOVEL_COMBINATIONS)
    for split in ("train", "validation", "test"):
        source = Scenes(split, 500)
        assert all(not looks(source, i) & held_out for i in range(500))
    novel = Scenes("novel", 500)
    assert all(looks(novel, i) & held_out for i in range(500))


def test_each_colour_and_each_shape_loses_one_partner() -> None:
    assert sorted(colour for colour, _ in NOVEL_COMBINATIONS) == sorted(COLOURS)
    assert sorted(shape for _, shape in NOVEL_COMBINATIONS) == sorted(SHAPES)


def test_training_shows_all_other_combinations() -> None:
    source = Scenes("train", 600)
    seen = set().union(*(looks(source, i) for i in range(600)))
    assert len(seen) == len(COLOURS) * len(SHAPES) - len(NOVEL_COMBINATIONS)


def test_most_scenes_have_two_objects() -> None:
    """15, 50, 25 and 10 %; the standard error of a share of 1,000 is at most 1.6 %."""
    source = Scenes("train", 1000)
    counts = np.bincount([len(source.scene(i).objects) for i in range(1000)], minlength=5)
    assert counts[1:] / 1000 == pytest.approx([0.15, 0.5, 0.25, 0.1], abs=0.045)


@pytest.mark.parametrize("split", ["validation", "test", "novel"])
def test_distinct_scenes_differ_in_content(split: str) -> None:
    source = scenes_splits(64, 0).split(split)
    assert isinstance(source, Scenes)
    contents = [source.scene(i).content() for i in range(700)]
    assert len(set(contents)) == 700


def test_distinct_scenes_are_a_subsequence_whatever_the_order_of_access() -> None:
    forward, backward = (Scenes("test", 300, distinct=True) for _ in range(2))
    plain = Scenes("test", 1000)
    late = [backward.item_id(i) for i in reversed(range(300))][::-1]
    names = [forward.item_id(i) for i in range(300)]
    assert names == late
    assert names == sorted(set(names))
    for i in (0, 150, 299):
        assert forward.scene(i) == plain.scene(int(names[i].rpartition("/")[2]))


def test_same_pair_with_opposite_relations_is_one_content() -> None:
    """ "A left of B" and "B right of A" say the same; "A above B" does not."""
    source = Scenes("train", 200)
    scene = next(s for s in map(source.scene, range(200)) if len(s.objects) == 2)
    relation = scene.relation
    assert relation is not None
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    turned = type(relation)(relation.object, opposite[relation.predicate], relation.subject)
    same = type(scene)(scene.objects, turned, scene.background, 64, scene.key)
    reversed_ = type(relation)(relation.subject, opposite[relation.predicate], relation.object)
    other = type(scene)(scene.objects, reversed_, scene.background, 64, scene.key)
    assert same.content() == scene.content()
    assert other.content() != scene.content()


def test_splits_have_their_sizes_and_share_one_image_size() -> None:
    splits = scenes_splits(32, 3)
    assert {name: len(source) for name, source in splits.splits.items()} == {
        "train": 100_000,
        "validation": 2_000,
        "test": 2_000,
        "novel": 2_000,
    }
    assert splits.rejected == ()
    assert all(source.image(0, 32).shape == (32, 32, 3) for source in splits.splits.values())


@pytest.mark.parametrize("index", [-1, 10])
def test_index_out_of_range_is_an_index_error(index: int) -> None:
    source = Scenes("train", 10)
    for read in (source.scene, source.captions, source.item_id):
        with pytest.raises(IndexError, match="of 10 scenes"):
            read(index)
    with pytest.raises(IndexError):
        source.image(index, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev", "size": 5}, "split 'dev' is unknown in scenes; known: train, validation"),
        ({"split": "train", "size": 0}, "size 0"),
        ({"split": "train", "size": 5, "seed": -1}, "seed -1"),
        ({"split": "train", "size": 5, "image_size": 16}, "16 pixels"),
    ],
)
def test_impossible_arguments_are_data_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scenes(**arguments)  # type: ignore[arg-type]


def test_items_are_those_of_earlier_versions() -> None:
    """Golden: sentences by their hash, images by the mean of each channel to half a level."""
    source = Scenes("train", 100_000)
    indexes = (0, 1, 2, 3, 77, 4_096, 99_999)
    sentences = "\n".join(caption for i in indexes for caption in source.captions(i))
    means = [source.image(i, 64).mean(axis=(0, 1)).round(1).tolist() for i in indexes[:3]]
    assert hashlib.sha256(sentences.encode()).hexdigest()[:16] == "06f33934a512ca19"
    assert np.allclose(
        means, [[122.6, 142.9, 104.6], [143.2, 103.9, 94.0], [131.9, 136.1, 107.8]], atol=0.5
    )
