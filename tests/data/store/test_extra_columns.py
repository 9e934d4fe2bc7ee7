from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
