from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.records import Record, split_of
from tijepa.data.store.ingest import SplitPlan, SplitSettler, StartAgainError
from tijepa.data.validation.check import Checked, Sound


def checked(name: str, split: str | None = None) -> Checked:
    record = Record(name, name, None, ("a",), split)
    return Checked(Sound(record, ("a",), None, "0" * 32), (), record)


def settled(names: list[str], plan: SplitPlan = SplitPlan()) -> list[str | None]:  # noqa: B008
    """The splits of items that name none, however often the source has to be read."""
    settler = SplitSettler(plan)
    splits = []
    for name in names:
        sound = settler.settle(checked(name)).sound
        splits.append(None if sound is None else sound.record.split)
    try:
        settler.finish()
    except StartAgainError as error:
        return settled(names, error.plan)
    return splits


@given(st.lists(st.text(max_size=8), unique=True, max_size=60))
def test_small_sources_are_all_train_and_others_have_no_empty_split(names: list[str]) -> None:
    counts = Counter(settled(names))
    if len(names) < 20:
        assert set(counts) <= {"train"}
    else:
        assert set(counts) == {"train", "validation", "test"}


def test_a_large_source_goes_by_the_hash_alone() -> None:
    names = [f"item {number}" for number in range(3000)]
    assert settled(names) == [split_of(name) for name in names]


def test_without_test_items_the_one_of_the_highest_hash_becomes_one() -> None:
    """Of names whose hash says train, the highest goes to test, the second to validation."""
    from tijepa.data.records import hash_fraction

    names = [name for name in map(str, range(100)) if split_of(name) == "train"][:30]
    ranked = sorted(names, key=hash_fraction)
    splits = dict(zip(names, settled(names), strict=True))
    assert splits[ranked[-1]] == "test"
    assert splits[ranked[-2]] == "validation"
    assert Counter(splits.values()) == {"train": 28, "validation": 1, "test": 1}


def test_where_splits_are_named_an_item_without_one_is_rejected() -> None:
    settler = SplitSettler(SplitPlan())
    assert settler.settle(checked("a", "test")) == checked("a", "test")
    later = settler.settle(checked("b"))
    assert later.sound is None
    assert later.findings[-1].reason == "split is None, while other rows name one"
    assert later.findings[-1].rejected
    settler.finish()


def test_a_split_named_late_starts_the_source_again() -> None:
    settler = SplitSettler(SplitPlan())
    settler.settle(checked("a"))
    with pytest.raises(StartAgainError) as caught:
        settler.settle(checked("b", "test"))
    assert caught.value.plan == SplitPlan(named=True)


def test_a_mixed_store_takes_named_splits_and_hashes_the_rest() -> None:
    settler = SplitSettler(SplitPlan(named=False, moved={}), mixed=True)
    for name, split in (("a", None), ("b", "held-out")):
        sound = settler.settle(checked(name, split)).sound
        assert sound is not None
        assert sound.record.split == (split or split_of(name))
    settler.finish()
