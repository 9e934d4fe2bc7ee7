"""Filters by the names of the source's columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tijepa.data.store.schema import ExtraColumn, ExtraColumns, StoreInfo
from tijepa.data.store.source import Store
from tijepa.errors import ConfigError
from tijepa.search.where import columns_of, in_store_names, rows_where

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
    assert columns_of(INFO).count("width") == 1
    assert columns_of(INFO)[-4:] == ["likes", "Taken at", "größe", "lower"]


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


@pytest.mark.parametrize("where", ["", "likes", "split = 3", "captions > 2", "'"])
def test_what_is_no_condition_is_refused_in_one_line(prepared: Path, where: str) -> None:
    with pytest.raises(ConfigError, match="cannot filter by") as caught:
        rows_where(Store(str(prepared)), where)
    assert "\n" not in str(caught.value)
    assert "/home/" not in str(caught.value)
    assert "columns: id, split" in str(caught.value)
