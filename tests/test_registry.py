"""What is said of a name that is not known."""

from __future__ import annotations

import pytest

from tijepa.registry import unknown_name


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            ["table", "rows"],
            "reader 'tabel' is unknown; did you mean 'table'? (known: rows, table)",
        ),
        (["rows"], "reader 'tabel' is unknown (known: rows)"),
        ([], "reader 'tabel' is unknown (known: none)"),
    ],
)
def test_the_nearest_of_the_known_names_is_offered(known: list[str], line: str) -> None:
    assert unknown_name("reader", "tabel", known) == line
