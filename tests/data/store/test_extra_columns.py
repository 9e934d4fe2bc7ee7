from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.records import Numeral
from tijepa.data.store.schema import REST, ExtraColumns

SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -3,
        2**53,
        2**53 + 1,
        2**63,
        -(2**63),
        0.5,
        1e300,
        "",
        "x",
        "ü",
        "\ud800",
    ]
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.just("k"), SCALARS)
NAMES = st.sampled_from(["a", "A", "a.b", "", "more", "ä"])
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=5)


def batch(columns: ExtraColumns, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns.arrays(rows), schema=pa.schema(columns.fields))


@given(first=ROWS, later=ROWS)
def test_every_value_comes_back_also_of_another_type_than_the_first_rows_had(
    first: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    columns = ExtraColumns.infer(first)
    for rows in (first, later):
        expected = [{k: v for k, v in row.items() if v is not None} for row in rows]
        assert columns.rows(batch(columns, rows)) == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None, False], "boolean"),
        ([1, 2], "integer"),
        ([1, 2.5], "number"),
        ([2**60, 2.5], "json"),
        ([2**63], "json"),
        (["x", "ü"], "text"),
        (["\ud800"], "json"),
        (["1", 1], "json"),
        ([True, 1], "json"),
        ([[1]], "json"),
        ([None], "json"),
    ],
)
def test_a_column_has_the_type_of_its_values(values: list[Any], kind: str) -> None:
    """2^60 is not exact as a float64, and 2^63 is no int64."""
    (column,) = ExtraColumns.infer([{"x": value} for value in values]).columns
    assert column.kind == kind


def test_fields_are_distinct_though_names_differ_in_case_and_signs_only() -> None:
    columns = ExtraColumns.infer([{"a.b": 1, "A B": 2, "a_b": 3}])
    assert [column.field for column in columns.columns] == [
        "extra_a_b",
        "extra_a_b_2",
        "extra_a_b_3",
    ]


def test_beyond_256_columns_values_share_one() -> None:
    row = {f"key {number}": number for number in range(300)}
    columns = ExtraColumns.infer([row])
    assert len(columns.fields) == 257
    assert columns.fields[-1].name == REST
    assert columns.rows(batch(columns, [row])) == [row]


def test_cells_that_read_as_numbers_are_numbers_where_all_of_the_column_do() -> None:
    """Of a semicolon table 12,50 is one; 007 is a code; one word makes a column text."""
    rows = [
        {"price": "12,50", "count": "3", "code": "007", "mixed": "1"},
        {"price": "7", "count": "-4", "code": "12", "mixed": "none"},
    ]
    read = [{k: Numeral.of(v, comma=True) for k, v in row.items()} for row in rows]
    columns = ExtraColumns.infer(read)
    kinds = {column.name: column.kind for column in columns.columns}
    assert kinds == {"price": "number", "count": "integer", "code": "text", "mixed": "text"}
    later = [*read, {"price": Numeral.of("1", comma=True), "count": "many", "code": "x"}]
    arrays = columns.arrays(later)
    assert arrays[0].to_pylist() == [12.5, 7.0, 1.0]
    assert arrays[1].to_pylist() == [3, -4, None]
    assert arrays[2].to_pylist() == ["007", "12", "x"]
    assert arrays[3].to_pylist() == ["1", "none", None]
    assert json.loads(arrays[4].to_pylist()[2]) == {"count": "many"}  # nothing is lost


@pytest.mark.parametrize(
    ("cell", "comma", "number"),
    [
        ("0", False, 0), ("-12", False, -12), ("0.5", False, 0.5), ("1,5", True, 1.5),
        ("1,5", False, None), ("1.000,5", True, None), ("007", True, None), ("1e5", True, None),
        ("", True, None), (" 3", True, None), ("12345678901234567890", True, None),
    ],
)  # fmt: skip
def test_what_reads_as_a_number(cell: str, comma: bool, number: float | None) -> None:
    found = Numeral.of(cell, comma=comma)
    assert found == cell
    assert getattr(found, "number", None) == number
