"""How much of the nearest stays when a model is trained on."""

from __future__ import annotations

import pytest
import torch

from tijepa.evaluate.forgetting import nearest_in_common


def test_the_share_of_the_ten_nearest_that_both_name() -> None:
    """Twelve things at energies 0 to 11: the first ten. Turned by two, ten of which eight are in
    both; the other way round the last ten, which have eight of the first ten too."""
    one = torch.arange(12.0)[None]
    assert nearest_in_common(one, one) == 1
    assert nearest_in_common(one, one.roll(2, dims=1)) == pytest.approx(0.8)
    assert nearest_in_common(one, -one) == pytest.approx(0.8)


def test_of_fewer_than_ten_all_stay() -> None:
    assert nearest_in_common(torch.rand(3, 4), torch.rand(3, 4)) == 1
