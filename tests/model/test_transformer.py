"""Attention against the formula, and what the stack of blocks keeps to."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tijepa.errors import ConfigError
from tijepa.model.transformer import Attention, Transformer, feed_forward, initialise


@given(tokens=st.integers(1, 40), heads=st.sampled_from([1, 2, 4]), masked=st.booleans())
@settings(deadline=None, max_examples=25)
def test_attention_is_softmax_of_scaled_products_over_visible_tokens(
    tokens: int, heads: int, masked: bool
) -> None:
    torch.manual_seed(tokens)
    attention = Attention(16, heads)
    torch.nn.init.normal_(attention.qkv.weight, std=0.3)
    x = torch.randn(3, tokens, 16)
    lengths = torch.tensor([[tokens], [1], [(tokens + 1) // 2]])
    mask = torch.arange(tokens).expand(3, -1) < lengths if masked else None
    q, k, v = (
        part.view(3, tokens, heads, -1).transpose(1, 2)
        for part in attention.qkv(x).chunk(3, dim=-1)
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(16 // heads)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    average = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(3, tokens, 16)
    torch.testing.assert_close(attention(x, mask), attention.out(average), atol=1e-5, rtol=0)


def test_attention_is_the_softmax_average_of_values() -> None:
    """One head of width 2 with q = k = v = x, x₁ = (√2 ln 3, 0), x₂ = (0, 0).

    Scores qᵢ·kⱼ / √2: row 1 is (√2 ln²3, 0), row 2 is (0, 0). So token 2 averages both values to
    x₁ / 2, and token 1 gives x₁ the weight p / (p + 1), p = exp(√2 ln²3).
    """
    attention = Attention(2, 1)
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.eye(2).repeat(3, 1))
        attention.qkv.bias.zero_()
        attention.out.weight.copy_(torch.eye(2))
        attention.out.bias.zero_()
    a = math.sqrt(2) * math.log(3)
    out = attention(torch.tensor([[[a, 0.0], [0.0, 0.0]]]), None)
    p = math.exp(math.sqrt(2) * math.log(3) ** 2)
    torch.testing.assert_close(out, torch.tensor([[[a * p / (p + 1), 0.0], [a / 2, 0.0]]]))


def test_attention_on_a_cpu_stays_in_float32_under_bf16_autocast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    fused = functional.scaled_dot_product_attention

    def watched(q: torch.Tensor, *rest: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        out = fused(q, *rest, **named)
        seen.append((q.dtype, out.dtype))
        return out

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Attention(16, 2)(torch.randn(2, 5, 16), None)
    assert seen == [(torch.float32, torch.float32)]
    assert out.dtype is torch.bfloat16


@pytest.mark.parametrize("tokens", [5, 33])
def test_masked_tokens_are_not_attended_to(tokens: int) -> None:
    torch.manual_seed(0)
    stack = Transformer(width=16, depth=2, heads=2, mlp_ratio=2.0)
    x = torch.randn(2, tokens, 16)
    mask = torch.arange(tokens).expand(2, -1) < 3
    changed = torch.where(mask[:, :, None], x, x + 5.0)
    assert torch.equal(stack(x, mask)[mask], stack(changed, mask)[mask])


def test_checkpointing_changes_neither_output_nor_gradient() -> None:
    x = torch.randn(2, 5, 16)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        stack = Transformer(width=16, depth=2, heads=2, mlp_ratio=2.0, checkpointing=checkpointing)
        own = x.clone().requires_grad_()
        out = stack(own)
        (out * torch.arange(16.0)).sum().backward()
        gradients.append([out.detach(), own.grad, *(p.grad for p in stack.parameters())])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_output_is_layer_normed_float32_also_under_autocast() -> None:
    torch.manual_seed(0)
    stack = Transformer(width=16, depth=1, heads=2, mlp_ratio=2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = stack(torch.randn(2, 5, 16))
    assert out.dtype is torch.float32
    torch.testing.assert_close(out.mean(dim=-1), torch.zeros(2, 5), atol=1e-2, rtol=0)
    torch.testing.assert_close(out.std(dim=-1, correction=0), torch.ones(2, 5), atol=2e-2, rtol=0)


def test_initial_weights_have_standard_deviation_a_fiftieth_and_no_bias() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(100, 100), nn.Linear(100, 100))
    initialise(module)
    for weight in (module[0].weight, module[1].weight):
        assert abs(float(weight.detach().std()) - 0.02) < 0.001
    assert not module[1].bias.any()


def test_padded_and_packed_tokens_give_the_same() -> None:
    """Packing saves work on padding and nothing else; padded rows may hold anything."""
    torch.manual_seed(0)
    transformer = Transformer(width=16, depth=2, heads=2, mlp_ratio=2.0).eval()
    x, mask = torch.randn(3, 5, 16), torch.arange(5) < torch.tensor([[5], [1], [3]])
    packed = transformer(x, mask)
    transformer.packs = False
    torch.testing.assert_close(transformer(x, mask)[mask], packed[mask])


def test_a_ratio_without_a_hidden_unit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mlp_ratio is 0.01, .* width 96: .* at least 1/96"):
        feed_forward(96, 0.01)
    assert feed_forward(96, 1 / 96)[0].out_features == 1


@given(width=st.integers(1, 2048), hidden=st.integers(1, 8192))
@settings(deadline=None)
def test_the_ratio_of_a_weights_shape_gives_that_shape_back(width: int, hidden: int) -> None:
    """Without the margin 49 · (1 / 49) falls short of 1 by rounding."""
    with torch.device("meta"):
        assert feed_forward(width, hidden / width)[0].out_features == hidden
