from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.config.yaml_io import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("-1E5", -1e5),
        (".5e1", 5.0),
        ("2.e-3", 2e-3),
        ("1.5", 1.5),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("none", "none"),
        ("2026-01-31", "2026-01-31"),
        ("'3e-4'", "3e-4"),
        ("cuda:0", "cuda:0"),
        ("[1e-1, 2]", [0.1, 2]),
        ("e4", "e4"),
        ("1e", "1e"),
    ],
)
def test_scalars_read_as_a_person_means_them(text: str, value: Any) -> None:
    read = read_yaml(text)
    assert read == value
    assert type(read) is type(value)


def test_a_key_that_stands_twice_is_an_error() -> None:
    with pytest.raises(yaml.YAMLError, match="key 'lr' stands twice"):
        read_yaml("optim: {lr: 1, lr: 2}")


def test_pairs_stand_on_one_line() -> None:
    assert write_yaml({"optim": {"betas": [0.9, 0.95]}}) == "optim:\n  betas: [0.9, 0.95]\n"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(), st.one_of(st.floats(allow_nan=False), st.text(), st.booleans(), st.integers())
    )
)
def test_what_is_written_reads_back_equal(values: dict[str, Any]) -> None:
    read = read_yaml(write_yaml(values))
    assert read == values
    assert [type(v) for v in read.values()] == [type(v) for v in values.values()]
