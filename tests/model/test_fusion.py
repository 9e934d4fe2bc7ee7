"""Image tokens that read the text: order of the block, masks, padding, who influences whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tijepa.model.encoded import Encoded
from tijepa.model.fusion import CrossAttention, Fusion, FusionBlock

IMAGE, TEXT, WIDTH = 12, 10, 8


def fusion(**changed: object) -> Fusion:
    torch.manual_seed(0)
    arguments = {"width": WIDTH, "depth": 2, "heads": 2, **changed}
    made = Fusion(image_width=IMAGE, text_width=TEXT, **arguments)
    for parameter in made.parameters():  # strong weights: a leak must not hide in rounding
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return made


def encoded(real: list[int], places: int, width: int, seed: int = 0) -> Encoded:
    """Tokens at positions 0, 1, ...; row k has `real[k]` of them, the rest is padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(len(real), 9, width, generator=generator)[:, :places]
    position = torch.arange(places).expand(len(real), -1)
    mask = position < torch.tensor(real)[:, None]
    return Encoded(tokens=tokens, position=position, mask=mask, pooled=tokens[:, 0])


def with_padding_of(x: Encoded, value: float) -> Encoded:
    tokens = torch.where(x.mask[:, :, None], x.tokens, value)
    return Encoded(tokens, x.position, x.mask, x.pooled)


def test_a_block_is_self_attention_then_cross_attention_then_mlp() -> None:
    """With the outputs of two of the three at zero, the third alone is added to x."""
    torch.manual_seed(0)
    block = FusionBlock(WIDTH, TEXT, 2, 4.0)
    x, text = torch.randn(1, 3, WIDTH), torch.randn(1, 4, TEXT)
    every = torch.ones(1, 4, dtype=torch.bool)
    parts = [
        (block.attention.out, lambda y: block.attention(block.norm_attention(y), None)),
        (block.cross.out, lambda y: block.cross(block.norm_cross(y), None, text, every)),
        (block.mlp[2], lambda y: block.mlp(block.norm_mlp(y))),
    ]
    expected = x
    for _, part in parts:
        expected = expected + part(expected)
    torch.testing.assert_close(block(x, None, None, text, every), expected)
    for kept, part in parts:
        alone = {name: value.clone() for name, value in block.state_dict().items()}
        for layer, _ in parts:
            if layer is not kept:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        torch.testing.assert_close(block(x, None, None, text, every), x + part(x))
        block.load_state_dict(alone)


def test_cross_attention_by_hand() -> None:
    """Width 2, one head, text of width 1 with values 0 and 3: q = (√2, 0), k = (ln 2 · t / 3, 0),
    so the scores are 0 and ln 2, the weights 1/3 and 2/3, and v = (t, t) gives 2 and 2."""
    cross = CrossAttention(2, 1, 1)
    ln2 = float(torch.tensor(2.0).log())
    with torch.no_grad():
        for part in (cross.query, cross.key_value, cross.out):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        cross.query.bias[0] = 2**0.5
        cross.key_value.weight[:, 0] = torch.tensor([ln2 / 3, 0.0, 1.0, 1.0])
        cross.out.weight.copy_(torch.eye(2))
    text = torch.tensor([[[0.0], [3.0], [99.0]]])
    mask = torch.tensor([[True, True, False]])
    out = cross(torch.randn(1, 5, 2), None, text, mask)
    torch.testing.assert_close(out, torch.full((1, 5, 2), 2.0))


@pytest.mark.parametrize("image_rows", [[6, 6], [6, 3]])
def test_padding_of_text_or_image_changes_nothing(image_rows: list[int]) -> None:
    model = fusion()
    image, text = encoded(image_rows, 6, IMAGE), encoded([5, 2], 5, TEXT, seed=1)
    plain = model(image, text)
    assert torch.equal(model(image, with_padding_of(text, 9.0)).tokens, plain.tokens)
    changed = model(with_padding_of(image, 9.0), text)
    assert torch.equal(changed.tokens[image.mask], plain.tokens[image.mask])
    assert torch.equal(changed.pooled, plain.pooled)
    wider = encoded([5, 2], 9, TEXT, seed=1)
    torch.testing.assert_close(model(image, wider).pooled, plain.pooled, atol=1e-5, rtol=0)


def test_the_text_of_an_item_changes_that_item_alone() -> None:
    model = fusion()
    image, text = encoded([6, 6], 6, IMAGE), encoded([5, 4], 5, TEXT, seed=1)
    tokens = text.tokens.clone()
    tokens[1] += 1.0
    other = model(image, Encoded(tokens, text.position, text.mask, text.pooled))
    plain = model(image, text)
    assert torch.equal(other.tokens[0], plain.tokens[0])
    assert (other.tokens[1] - plain.tokens[1]).abs().amax(dim=1).min() > 1e-3, "every patch reads"


def test_a_part_of_the_patches_keeps_its_positions_and_its_mean() -> None:
    """Rows of different length: the mean is over the real ones."""
    image = encoded([6, 3], 6, IMAGE)
    shifted = Encoded(image.tokens, image.position + 2, image.mask, image.pooled)
    found = fusion()(shifted, encoded([5, 2], 5, TEXT, seed=1))
    assert found.tokens.shape == (2, 6, WIDTH)
    assert torch.equal(found.position, shifted.position)
    torch.testing.assert_close(found.pooled[1], found.tokens[1, :3].mean(dim=0))
    torch.testing.assert_close(found.pooled[0], found.tokens[0].mean(dim=0))


def test_checkpointing_changes_neither_output_nor_gradient() -> None:
    image, text = encoded([6, 3], 6, IMAGE), encoded([5, 2], 5, TEXT, seed=1)
    gradients = []
    for checkpointing in (False, True):
        model = fusion(checkpointing=checkpointing)
        pooled = model(image, text).pooled
        (pooled * torch.arange(float(WIDTH))).sum().backward()
        gradients.append([pooled.detach(), *(p.grad for p in model.parameters())])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
