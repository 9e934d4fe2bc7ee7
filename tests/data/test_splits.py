from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.records import canonical_split, mistyped_split, split_in_name, split_of


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", " Dev "])
def test_usual_names_of_the_validation_split_are_one(name: str) -> None:
    assert canonical_split(name) == "validation"


def test_other_names_stay_but_for_case() -> None:
    assert canonical_split("Unlabelled") == "unlabelled"
    assert [canonical_split(n) for n in ("train", "restval", "Training", "TEST")] == [
        "train",
        "train",
        "train",
        "test",
    ]


@given(st.text())
def test_a_canonical_name_is_its_own(name: str) -> None:
    assert canonical_split(canonical_split(name)) == canonical_split(name)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002", "train"),
        ("captions_val2017", "validation"),
        ("test", "test"),
        ("latest", None),
        ("constraints", None),
        ("train_val", None),
        ("val_dev", "validation"),
        ("00000", None),
    ],
)
def test_a_file_name_speaks_of_one_split_or_none(name: str, split: str | None) -> None:
    assert split_in_name(name) == split


def test_the_split_by_id_is_about_ninety_five_five() -> None:
    """2,000 items: 100 expected in each small split, standard deviation 9.7; bounds 5 of them."""
    splits = [split_of(str(number)) for number in range(2000)]
    assert 51 < splits.count("validation") < 149
    assert 51 < splits.count("test") < 149
    assert set(splits) == {"train", "validation", "test"}


def test_the_split_by_id_never_changes() -> None:
    """Recorded from the first version: prepared data must keep its splits."""
    splits = {number: split_of(str(number)) for number in range(30)}
    assert [number for number, split in splits.items() if split == "test"] == [1, 10, 15, 24]
    assert [number for number, split in splits.items() if split == "validation"] == [7]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("trian", "train"),
        ("tests", "test"),
        ("validaton", "validation"),
        ("train", None),
        ("validation", None),
        ("novel", None),
        ("extra", None),
        ("unlabelled", None),
        ("indoor", None),
    ],
)
def test_a_split_whose_name_is_nearly_a_usual_one_is_known_as_such(
    name: str, meant: str | None
) -> None:
    assert mistyped_split(name) == meant
