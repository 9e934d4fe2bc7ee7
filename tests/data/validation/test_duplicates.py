from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.validation.duplicates import Duplicates, Fingerprints

LOOKS = (0x0123456789ABCDEF, 0x0123456789ABCDEE, 0xFEDCBA9876543210)  # the first two 1 bit apart
SPLITS = ["(no split)", "train", "validation", "test"]


def find(*items: tuple[int | None, str, int], looks: bool = False) -> Duplicates:
    """Items of (image or None, caption, split); with `looks` images 0 and 1 look alike."""
    prints = Fingerprints()
    for image, caption, split in items:
        look = None
        content = f"{hash(caption) & (2**64 - 1):032x}"
        if image is not None:
            look = LOOKS[image] if looks else 0
            content = f"{image + 1:032x}"
        prints.append(content, look, split, [hash(caption) & (2**64 - 1)])
    return prints.duplicates(SPLITS)


def groups(duplicates: Duplicates, kind: str) -> list[list[int]]:
    return [group.tolist() for group in duplicates.groups[kind]]


def test_the_same_image_and_captions_in_one_split_are_an_exact_duplicate() -> None:
    found = find((0, "a", 1), (1, "a", 1), (0, "a", 1), (0, "b", 1))
    assert groups(found, "duplicate-item") == [[0, 2]]
    assert found.redundant.tolist() == [2]


def test_a_text_alone_that_stands_twice_is_an_exact_duplicate() -> None:
    found = find((None, "a", 1), (None, "b", 1), (None, "a", 1), (None, "a", 3))
    assert groups(found, "duplicate-item") == [[0, 2]]
    assert found.redundant.tolist() == [2]


def test_an_image_with_two_captions_is_reported_but_not_redundant() -> None:
    found = find((0, "a", 1), (0, "b", 1))
    assert groups(found, "duplicate-image") == [[0, 1]]
    assert groups(found, "duplicate-item") == []
    assert found.redundant.tolist() == []


def test_of_an_image_in_two_splits_the_copy_in_the_held_out_split_stays() -> None:
    """Image 0 in train, test and validation: test stays; image 1 in train and validation."""
    found = find((0, "a", 1), (0, "b", 3), (0, "c", 2), (1, "d", 2), (1, "e", 1))
    assert groups(found, "image-in-two-splits") == [[0, 1, 2], [3, 4]]
    assert found.redundant.tolist() == [0, 2, 4]


def test_items_without_split_are_in_no_two_splits() -> None:
    assert groups(find((0, "a", 0), (0, "b", 1)), "image-in-two-splits") == []


def test_images_that_look_alike_are_found_in_one_and_in_two_splits() -> None:
    found = find((0, "a", 1), (1, "b", 1), (2, "c", 1), (1, "d", 3), looks=True)
    assert groups(found, "near-duplicate") == [[0, 1, 3]]
    assert groups(found, "near-in-two-splits") == [[0, 1, 3]]
    assert found.redundant.tolist() == [1]  # the same bytes in test


def test_copies_of_one_file_are_no_near_duplicates() -> None:
    found = find((0, "a", 1), (0, "b", 3), looks=True)
    assert groups(found, "near-duplicate") == []
    assert groups(found, "near-in-two-splits") == []


def test_plain_images_are_counted_and_not_compared() -> None:
    found = find((0, "a", 1), (1, "b", 1))
    assert groups(found, "near-duplicate") == []
    assert found.plain == 2


def test_nothing_has_no_duplicates() -> None:
    found = find()
    assert all(len(groups) == 0 for groups in found.groups.values())
    assert found.redundant.tolist() == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 3)),
        max_size=25,
    )
)
def test_setting_the_redundant_items_aside_loses_no_image_and_leaves_no_copy(
    items: list[tuple[int | None, str, int]],
) -> None:
    redundant = set(find(*items).redundant.tolist())
    left = [item for row, item in enumerate(items) if row not in redundant]
    assert {image for image, _, _ in left} == {image for image, _, _ in items}
    assert {text for p, text, _ in left if p is None} == {t for p, t, _ in items if p is None}
    again = find(*left)
    assert groups(again, "duplicate-item") == []
    assert groups(again, "image-in-two-splits") == []
    assert again.redundant.tolist() == []
