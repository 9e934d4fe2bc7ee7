from __future__ import annotations

import torch

from tijepa.model.encoded import gather_tokens, pool


def test_gathering_picks_each_row_its_own_tokens() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    got = gather_tokens(x, torch.tensor([[2, 0], [1, 1]]))
    expected = torch.tensor([[[4.0, 5.0], [0.0, 1.0]], [[8.0, 9.0], [8.0, 9.0]]])
    assert torch.equal(got, expected)


def test_pooling_is_the_mean_over_real_tokens() -> None:
    x = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool(x, mask), torch.tensor([[2.0], [4.0]]))
    assert torch.equal(pool(x[1:], None), torch.tensor([[4.0]]))
