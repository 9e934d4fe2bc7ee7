"""What a backbone gives is what its own library gives, for every architecture that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.pretrained.tiny import write_tokenizer

from tijepa.model.encoded import TokenSubset
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone
from tijepa.model.pretrained.sources import open_image_source, open_text_source
from tijepa.model.pretrained.weights import load_pretrained

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
PHOTOS = {**SMALL, "image_size": 32, "patch_size": 8}
# configuration, class, settings, does it have a summary token
IMAGES: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "vit": ("ViTConfig", "ViTModel", {}, True),
    "ijepa": ("IJepaConfig", "IJepaModel", {}, False),
    "dinov2": ("Dinov2Config", "Dinov2Model", {}, True),
    "dinov2-registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {"num_register_tokens": 3},
        True,
    ),
    "dinov3": ("DINOv3ViTConfig", "DINOv3ViTModel", {"num_register_tokens": 2}, True),
    "clip": ("CLIPVisionConfig", "CLIPVisionModel", {}, True),
    "siglip": ("SiglipVisionConfig", "SiglipVisionModel", {}, True),
}
TEXTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", {}),
    "gte": ("GteConfig", "GteModel", {}),
    "modernbert": ("ModernBertConfig", "ModernBertModel", {"global_attn_every_n_layers": 2}),
    "t5": (
        "T5Config",
        "T5EncoderModel",
        {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2},
    ),
}


def written(config: str, model: str, settings: dict[str, Any], folder: Path) -> Any:
    """The library's own model with strong random weights, as `save_pretrained` writes it."""
    torch.manual_seed(0)
    own = getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()
    with torch.no_grad():
        for parameter in own.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    own.save_pretrained(folder)
    return own


@pytest.fixture(scope="module", params=sorted(IMAGES))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library's model, our backbone of it, and whether there is a summary."""
    config, model, settings, summary = IMAGES[request.param]
    folder = tmp_path_factory.mktemp("image") / request.param
    own = written(config, model, {**PHOTOS, **settings}, folder)
    source = open_image_source(str(folder))
    ours = ImageBackbone(net=source.net, image_size=32, pooling="mean")
    load_pretrained(ours.net, source.weights(32), "tiny")
    return own, ours, summary


def test_image_tokens_and_summary_are_the_librarys(image: Any) -> None:
    own, ours, summary = image
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs, seen = own(pixel_values=pixels), ours.net(pixels)
    hidden = theirs.last_hidden_state
    torch.testing.assert_close(seen.tokens, hidden[:, -16:], atol=1e-5, rtol=0)
    assert (ours.grid, ours.width, ours.pooled_width) == (4, 32, 32)
    assert bool(seen.pooled.shape[1]) == summary
    if summary:
        pools = type(own).__name__ in ("CLIPVisionModel", "SiglipVisionModel")
        expected = theirs.pooler_output if pools else hidden[:, 0]
        torch.testing.assert_close(seen.pooled, expected, atol=1e-5, rtol=0)


def test_a_part_of_an_image_is_encoded_without_the_rest(image: Any) -> None:
    """All patches in another order give the same tokens; hidden ones and padding none at all."""
    _, ours, _ = image
    pixels = torch.randn(2, 3, 32, 32)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.no_grad():
        whole = ours(pixels)
        shuffled = ours(pixels, TokenSubset(order, torch.ones_like(order, dtype=torch.bool)))
    expected = torch.stack([whole.tokens[b, order[b]] for b in range(2)])
    torch.testing.assert_close(shuffled.tokens, expected, atol=1e-5, rtol=0)

    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    changed = pixels.clone()
    for b in range(2):
        for hidden in set(range(16)) - set(order[b, :5][mask[b]].tolist()):
            row, column = divmod(hidden, 4)
            changed[b, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0
    with torch.no_grad():
        first = ours(pixels, TokenSubset(order[:, :5], mask))
        other = ours(changed, TokenSubset(order[:, :5], mask))
        alone = ours(pixels[1:], TokenSubset(order[1:, :3], mask[1:, :3]))
    torch.testing.assert_close(first.tokens[mask], other.tokens[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(first.tokens[1:, :3], alone.tokens, atol=1e-5, rtol=0)


@pytest.fixture(scope="module", params=sorted(TEXTS))
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library's model and our backbone of it."""
    config, model, settings = TEXTS[request.param]
    folder = tmp_path_factory.mktemp("text") / request.param
    base = {} if request.param == "t5" else SMALL
    shared = {"vocab_size": 40, "pad_token_id": 0}
    own = written(config, model, {**base, **shared, **settings}, folder)
    write_tokenizer(folder)
    source = open_text_source(str(folder))
    ours = TextBackbone(net=source.net, max_tokens=8)
    load_pretrained(ours.net, source.weights(), "tiny")
    return own, ours


IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])


def test_text_tokens_are_the_librarys(text: Any) -> None:
    own, ours = text
    mask = IDS != 0
    with torch.no_grad():
        theirs = own(input_ids=IDS, attention_mask=mask.long()).last_hidden_state
        encoded = ours(IDS, mask)
    torch.testing.assert_close(encoded.tokens[mask], theirs[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.pooled[0], theirs[0].mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.pooled[1], theirs[1, :3].mean(dim=0), atol=1e-5, rtol=0)


def test_hidden_tokens_have_no_influence(text: Any) -> None:
    _, ours = text
    visible = TokenSubset(torch.tensor([[0, 3], [0, 1]]), torch.ones(2, 2, dtype=torch.bool))
    changed = IDS.clone()
    changed[0, 1:3], changed[0, 4], changed[1, 2] = 11, 12, 13
    with torch.no_grad():
        first = ours(IDS, IDS != 0, visible)
        other = ours(changed, IDS != 0, visible)
    assert first.tokens.shape == (2, 2, 32)
    assert first.position.tolist() == [[0, 3], [0, 1]]
    torch.testing.assert_close(first.tokens, other.tokens, atol=1e-5, rtol=0)
