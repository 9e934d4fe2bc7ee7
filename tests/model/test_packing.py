"""Packing leaves out padding and nothing else."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.model.transformer import Packing


def test_real_tokens_stand_end_to_end_and_return_to_their_places() -> None:
    """Rows of 2 and 1 real tokens of 3: flat positions 0, 1 and 3 are real."""
    x = torch.arange(12.0).view(2, 3, 2)
    packing = Packing.of(torch.tensor([[True, True, False], [True, False, False]]))
    assert packing.index.tolist() == [0, 1, 3]
    packed = packing.pack(x)
    assert packed.tolist() == [[0.0, 1.0], [2.0, 3.0], [6.0, 7.0]]
    assert packing.unpack(packed).tolist() == [
        [[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]],
        [[6.0, 7.0], [0.0, 0.0], [0.0, 0.0]],
    ]


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_unpack_undoes_pack_and_gradients_reach_real_tokens_alone(lengths: list[int]) -> None:
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), 5, 3, requires_grad=True)
    packing = Packing.of(mask)
    back = packing.unpack(packing.pack(x))
    assert torch.equal(back, x * mask[:, :, None])
    back.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, mask[:, :, None].expand_as(x).float())
