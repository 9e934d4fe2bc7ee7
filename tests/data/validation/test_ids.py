from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.validation.statistics import IdBook


def test_ids_are_found_by_row_across_blocks() -> None:
    book = IdBook()
    for number in range(40_000):
        book.append(f"images/{number}.jpg")
    assert len(book) == 40_000
    wanted = [0, 16_383, 16_384, 39_999, 0]
    assert book.look_up(wanted) == {row: f"images/{row}.jpg" for row in wanted}


def test_compressed_ids_take_little_room() -> None:
    """32,768 ids of 16 characters, half a megabyte, in less than a fifth of that."""
    book = IdBook()
    for number in range(32_768):
        book.append(f"images/{number:05}.jpg")
    assert sum(map(len, book._blocks)) < 0.2 * 32_768 * 16


@given(st.lists(st.text(st.characters(exclude_characters="\x1f"), max_size=8), max_size=20))
def test_any_id_comes_back(ids: list[str]) -> None:
    book = IdBook()
    for item in ids:
        book.append(item)
    assert book.look_up(range(len(ids))) == dict(enumerate(ids))


def test_lone_surrogates_survive_compression() -> None:
    book = IdBook()
    for _ in range(16_384):
        book.append("\udc80\n")
    assert book.look_up([7]) == {7: "\udc80\n"}
