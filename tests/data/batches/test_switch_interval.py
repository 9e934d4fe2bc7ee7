"""Short turns last as long as the block."""

from __future__ import annotations

import sys

import pytest

from tijepa.data.batches.loader import switch_interval


def test_turns_are_short_inside_and_as_before_outside() -> None:
    before = sys.getswitchinterval()
    with switch_interval(1e-3):
        assert sys.getswitchinterval() == pytest.approx(1e-3)
    assert sys.getswitchinterval() == before


def test_turns_are_as_before_after_an_error() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(KeyboardInterrupt), switch_interval():
        raise KeyboardInterrupt
    assert sys.getswitchinterval() == before
