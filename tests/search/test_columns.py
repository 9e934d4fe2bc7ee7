"""Conditions and values by the names of the source's columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.schema import ExtraColumn, ExtraColumns, StoreInfo
from tijepa.data.store.source import Store
from tijepa.errors import ConfigError
from tijepa.search.columns import (
    check_columns,
    columns_of,
    in_store_names,
    rows_where,
    values_of,
    with_values,
)

INFO = StoreInfo(
    "a table",
    "named",
    ExtraColumns(
        (
            ExtraColumn("likes", "extra_likes", "integer"),
            ExtraColumn("Taken at", "extra_taken_at", "text"),
            ExtraColumn("width", "extra_width", "integer"),
            ExtraColumn("größe", "extra_gr__e", "number"),
            ExtraColumn("lower", "extra_lower", "text"),
        )
    ),
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("likes > 3", "`extra_likes` > 3"),
        ("split = 'test' AND likes>3", "split = 'test' AND `extra_likes`>3"),
        ("split = 'likes'", "split = 'likes'"),
        ("split = 'it''s likes' OR likes=1", "split = 'it''s likes' OR `extra_likes`=1"),
        ("`Taken at` < '2020'", "`extra_taken_at` < '2020'"),
        ("width > 3", "width > 3"),  # the store's own
        ("extra_width > 3", "extra_width > 3"),
        ("unlikes > 3 AND likes2 = 1", "unlikes > 3 AND likes2 = 1"),
        ("größe > 1.5e3", "`extra_gr__e` > 1.5e3"),
        ("lower(lower) = 'a'", "lower(`extra_lower`) = 'a'"),
    ],
)
def test_columns_of_the_source_get_their_names_in_the_store(where: str, expected: str) -> None:
    assert in_store_names(where, INFO) == expected


def test_a_name_of_the_store_and_of_the_source_is_listed_once() -> None:
    assert list(columns_of(INFO)).count("width") == 1
    assert list(columns_of(INFO))[-4:] == ["likes", "Taken at", "größe", "lower"]


def test_rows_are_counted_over_what_is_left_after_deletions(store: Path) -> None:
    """Rows 0 to 55 have r % 5 likes. Without rows 0 and 1, those of 4 likes (4, 9, …) come at
    2, 7, …"""
    opened = Store(str(store))
    assert rows_where(opened, "likes = 4")[:3].tolist() == [4, 9, 14]
    ids = opened.take(np.array([0, 1]), ["id"])["id"].to_pylist()
    opened.dataset.delete(f"id IN ('{ids[0]}', '{ids[1]}')")
    assert rows_where(Store(str(store)), "likes = 4")[:3].tolist() == [2, 7, 12]


def test_a_second_statement_is_refused_and_a_semicolon_in_quotes_is_not(store: Path) -> None:
    opened = Store(str(store))
    for where in ("likes = 4; split = 'test'", "1=1; drop table x", "likes = 4;"):
        with pytest.raises(ConfigError, match='holds a ";"; join conditions with AND'):
            rows_where(opened, where)
    assert len(rows_where(opened, "likes = 4 OR split = 'a;b'")) == len(
        rows_where(opened, "likes = 4")
    )


@pytest.fixture(scope="module")
def cups(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """40 texts: `price` a number or text in turn, one of three brands, every second on sale."""
    folder = tmp_path_factory.mktemp("cups")
    rows = [
        {
            "image": None,
            "caption": f"a cup {k}",
            "price": f"{k},5" if k % 2 else k + 0.5,
            "Brand Name": ["Acme", "Bolt", "Cé"][k % 3],
            "likes": k,
            "sale": k % 2 == 0,
        }
        for k in range(40)
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_store(open_reader(str(folder)), str(folder / "cups.lance"))
    return Store(str(folder / "cups.lance"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("prise > 3", "column 'prise' is unknown; did you mean 'price'?"),
        ("Brand Name = 'Acme'", "column 'Brand' is unknown; did you mean '`Brand Name`'?"),
        ("split = test", "test is no column; text stands in single quotes"),
        ("price > 100", "price holds values of several kinds, as text, and 100 is a number"),
        ("likes > 'many'", "likes holds whole numbers, and 'many' is text: write a number without"),
        ("likes > 3.5", "with a fraction: write a whole number, or CAST(likes AS DOUBLE)"),
        ("split = 3", "split holds text, and 3 is a number: compare text, as '3'"),
        ("sale = 'yes'", "sale holds true or false, and 'yes' is text: write sale = true or"),
        ("captions = 'a'", "a list of texts, and 'a' is text: write array_has(captions, 'a')"),
        ("likes", "it compares nothing: give a comparison"),
        ("likes + 'a' > 2", "integer + text to valid types; likes holds whole numbers"),
        ("likes >", "Expected: an expression, found: EOF; likes holds whole numbers; columns: id"),
        ("", "columns: id, split"),
        ("'", "Unterminated string literal"),
    ],
)
def test_what_is_no_condition_is_told_in_the_words_of_the_source(
    cups: Store, where: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        rows_where(cups, where)
    assert str(caught.value).startswith(f'cannot filter by "{where}": ')
    assert said in str(caught.value)
    for inner in ("\n", "/home/", "Utf8", "Int64", "extra_"):
        assert inner not in str(caught.value)


def test_what_errors_propose_can_be_done(cups: Store) -> None:
    """The prices that read as numbers are 0.5, 2.5, … 38.5, of which 15 lie above 10."""
    assert len(rows_where(cups, "TRY_CAST(price AS DOUBLE) > 10")) == 15
    assert len(rows_where(cups, "CAST(likes AS DOUBLE) > 36.5")) == 3
    assert len(rows_where(cups, "sale = true")) == 20
    assert len(rows_where(cups, "array_has(captions, 'a cup 3')")) == 1
    assert len(rows_where(cups, "`Brand Name` = 'Cé'")) == 13
    assert len(rows_where(cups, "\"Brand Name\" = 'Cé'")) == 13


def test_values_of_rows_go_by_the_names_of_the_source(cups: Store) -> None:
    first, second, again = values_of(cups, np.array([3, 2, 3]))
    assert (first["price"], first["Brand Name"], first["likes"], first["sale"]) == (
        "3,5", "Acme", 3, False,
    )  # fmt: skip
    assert (second["price"], "width" in second) == (2.5, False)
    assert first == again
    assert values_of(cups, np.array([], np.int64)) == []


def test_columns_of_few_values_say_which(cups: Store) -> None:
    values = {column.name: column.values for column in with_values(cups)}
    assert values["Brand Name"] == ("Acme", "Bolt", "Cé")
    assert values["sale"] == (False, True)
    assert values["likes"] is values["price"] is values["captions"] is values["width"] is None


def test_columns_to_show_are_those_that_hits_have(cups: Store) -> None:
    check_columns(["price", "Brand Name", "width", "split"], cups.info)
    with pytest.raises(ConfigError, match="column 'prise' is unknown; did you mean 'price'"):
        check_columns(["likes", "prise"], cups.info)
