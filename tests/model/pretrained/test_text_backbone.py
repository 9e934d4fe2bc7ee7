"""What the pooled token of a pretrained text network is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.pretrained.tiny import write_bert

from tijepa.model.encoded import TokenSubset
from tijepa.model.pretrained.sources import open_text_source
from tijepa.model.pretrained.text_backbone import TextBackbone
from tijepa.model.pretrained.weights import load_pretrained


@pytest.fixture
def layered(tmp_path: Path) -> TextBackbone:
    source = open_text_source(str(write_bert(tmp_path / "bert", layers=2)))
    made = TextBackbone(net=source.net, max_tokens=8, pooling="layers")
    load_pretrained(made.net, source.weights(), "tiny")
    return made


IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
MASK = IDS > 0


def test_layers_are_the_word_embeddings_and_the_last_two_layers(layered: TextBackbone) -> None:
    """Means over the real tokens; the network has three hidden states: embeddings, layers 1, 2."""
    with torch.no_grad():
        found = layered(IDS, MASK)
        states = layered.net(IDS, attention_mask=MASK.long(), output_hidden_states=True)
    real = MASK[:, :, None].float()
    expected = [(h * real).sum(dim=1) / real.sum(dim=1) for h in states.hidden_states]
    torch.testing.assert_close(found.pooled, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)
    assert found.pooled.shape[1] == layered.pooled_width == 3 * layered.width


def test_a_hidden_token_is_in_no_layer_of_the_pooled_one(layered: TextBackbone) -> None:
    visible = TokenSubset(torch.tensor([[0, 1, 3]]), torch.ones(1, 3, dtype=torch.bool))
    other = IDS[:1].clone()
    other[0, 2] = 9
    with torch.no_grad():
        one, changed = (layered(ids, MASK[:1], visible).pooled for ids in (IDS[:1], other))
    assert torch.equal(one, changed)
