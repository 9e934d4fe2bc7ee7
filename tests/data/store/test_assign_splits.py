from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.records import Record, split_of
from tijepa.data.store.ingest import Plan, SplitAssigner, StartAgainError
from tijepa.data.validation.check import Checked, Sound


def checked(name: str, split: str | None = None) -> Checked:
    record = Record(name, name, None, ("a",), split)
    return Checked(Sound(record, ("a",), None, "0" * 32), (), record)


def assigned(names: list[str], plan: Plan = Plan()) -> list[str | None]:  # noqa: B008
    """The splits of items that name none, however often the source has to be read."""
    assigner = SplitAssigner(plan)
    splits = []
    for name in names:
        sound = assigner.assign(checked(name)).sound
        splits.append(None if sound is None else sound.record.split)
    try:
        assigner.finish()
    except StartAgainError as error:
        return assigned(names, error.plan)
    return splits


@given(st.lists(st.text(max_size=8), unique=True, max_size=60))
def test_small_sources_are_all_train_and_others_have_no_empty_split(names: list[str]) -> None:
    counts = Counter(assigned(names))
    if len(names) < 20:
        assert set(counts) <= {"train"}
    else:
        assert set(counts) == {"train", "validation", "test"}


def test_a_large_source_goes_by_the_hash_alone() -> None:
    names = [f"item {number}" for number in range(3000)]
    assert assigned(names) == [split_of(name) for name in names]


def test_of_few_items_more_are_held_out_and_those_of_the_highest_hashes() -> None:
    """Of 40 items 15 % are 6, of 700 they would be 105, and 100 are enough; so too of 1,999."""
    from tijepa.data.records import hash_fraction

    for count, held in ((20, 3), (40, 6), (700, 100), (1999, 100)):
        names = [f"item {number}" for number in range(count)]
        splits = dict(zip(names, assigned(names), strict=True))
        ranked = sorted(names, key=hash_fraction)
        assert {splits[name] for name in ranked[-held:]} == {"test"}
        assert {splits[name] for name in ranked[-2 * held : -held]} == {"validation"}
        assert {splits[name] for name in ranked[: -2 * held]} == {"train"}


def test_where_splits_are_named_an_item_without_one_is_rejected() -> None:
    assigner = SplitAssigner(Plan())
    assert assigner.assign(checked("a", "test")) == checked("a", "test")
    later = assigner.assign(checked("b"))
    assert later.sound is None
    assert later.findings[-1].reason == "split is None, while other rows name one"
    assert later.findings[-1].rejected
    assigner.finish()


def test_a_split_named_late_starts_the_source_again() -> None:
    assigner = SplitAssigner(Plan())
    assigner.assign(checked("a"))
    with pytest.raises(StartAgainError) as caught:
        assigner.assign(checked("b", "test"))
    assert caught.value.plan == Plan(named=True)


def test_a_mixed_store_takes_named_splits_and_hashes_the_rest() -> None:
    assigner = SplitAssigner(Plan(named=False, moved={}), mixed=True)
    for name, split in (("a", None), ("b", "held-out")):
        sound = assigner.assign(checked(name, split)).sound
        assert sound is not None
        assert sound.record.split == (split or split_of(name))
    assigner.finish()
