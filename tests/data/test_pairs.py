from __future__ import annotations

import pytest
import torch

from tijepa.data.pairs import Batch, PairSplits
from tijepa.errors import DataError


def numbered_batch(rows: int) -> Batch:
    return Batch(
        images=torch.arange(rows * 12, dtype=torch.float32).reshape(rows, 3, 2, 2),
        has_image=torch.arange(rows) % 2 == 0,
        tokens=torch.arange(rows * 5).reshape(rows, 5),
        token_mask=torch.ones(rows, 5, dtype=torch.bool),
        has_text=torch.arange(rows) % 3 == 0,
        indices=torch.arange(rows),
        cursor=17,
    )


def test_parts_of_a_batch_join_to_the_whole() -> None:
    batch = numbered_batch(6)
    parts = [batch.part(0, 2), batch.part(2, 6)]
    assert [len(part) for part in parts] == [2, 4]
    assert all(part.cursor == 17 for part in parts)
    for name in ("images", "has_image", "tokens", "token_mask", "has_text", "indices"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(batch, name)), name


def test_moving_a_batch_moves_every_tensor_and_keeps_the_cursor() -> None:
    moved = numbered_batch(2).to("meta")
    for name in ("images", "has_image", "tokens", "token_mask", "has_text", "indices"):
        assert getattr(moved, name).device.type == "meta", name
    assert moved.cursor == 17


def test_an_unknown_split_is_refused_naming_the_known_ones() -> None:
    splits = PairSplits(splits={}, rejected=(), description="folder x")
    with pytest.raises(DataError, match="split 'dev' is unknown in folder x"):
        splits.split("dev")
