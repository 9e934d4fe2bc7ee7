"""CLIP in open_clip's layout gives what open_clip's network computes, written here by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.model.pretrained.tiny import write_tokenizer
from torch import Tensor

import tijepa
from tijepa.errors import ConfigError
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone
from tijepa.model.pretrained.open_clip import clip_config, is_open_clip
from tijepa.model.pretrained.sources import open_image_source, open_text_source
from tijepa.model.pretrained.weights import BackboneFolder, load_pretrained

pytest.importorskip("transformers")
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 12, "vocab_size": 4096, "width": 24, "heads": 2, "layers": 2}
EMBED = 20
MEAN = [0.48, 0.46, 0.41]


def write_open_clip(folder: Path, *, custom_text: bool = False, quick_gelu: bool = True) -> Any:
    """Random weights by open_clip's names, its configuration, and a tokenizer."""
    torch.manual_seed(0)
    width, narrow = VISION["width"], TEXT["width"]
    weights = {
        "visual.class_embedding": torch.randn(width),
        "visual.positional_embedding": torch.randn(5, width),
        "visual.conv1.weight": 0.1 * torch.randn(width, 3, 16, 16),
        "visual.proj": torch.randn(width, EMBED),
        "token_embedding.weight": torch.randn(4096, narrow),
        "positional_embedding": torch.randn(12, narrow),
        "text_projection": torch.randn(narrow, EMBED),
        "logit_scale": torch.tensor(4.6),
    }
    for norm, size in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", narrow)):
        weights |= {f"{norm}.weight": 1 + torch.randn(size), f"{norm}.bias": torch.randn(size)}
    for tower, size in (("visual.", width), ("", narrow)):
        for layer in range(2):
            block = f"{tower}transformer.resblocks.{layer}"
            for name, outputs, inputs in (
                ("attn.in_proj_", 3 * size, size),
                ("attn.out_proj.", size, size),
                ("mlp.c_fc.", 4 * size, size),
                ("mlp.c_proj.", size, 4 * size),
            ):
                weights[f"{block}.{name}weight"] = 0.3 * torch.randn(outputs, inputs)
                weights[f"{block}.{name}bias"] = 0.3 * torch.randn(outputs)
            for norm in ("ln_1", "ln_2"):
                weights[f"{block}.{norm}.weight"] = 1 + 0.3 * torch.randn(size)
                weights[f"{block}.{norm}.bias"] = 0.3 * torch.randn(size)
    folder.mkdir()
    saved = {
        name if not custom_text or name.startswith(("visual.", "logit")) else f"text.{name}": value
        for name, value in weights.items()
    }
    save_file(saved, folder / "open_clip_model.safetensors")
    model = {"embed_dim": EMBED, "vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": quick_gelu}
    config = {
        "model_cfg": {**model, "custom_text": custom_text},
        "preprocess_cfg": {"size": [32, 32], "mean": MEAN, "std": [0.27, 0.26, 0.28]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    return weights


def norm(x: Tensor, w: Any, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def blocks(x: Tensor, w: Any, tower: str, heads: int, mask: Tensor | None, quick: bool) -> Tensor:
    """Pre-norm residual blocks over (n, b, d), as `torch.nn.MultiheadAttention` computes them."""
    for layer in range(2):
        name = f"{tower}transformer.resblocks.{layer}"
        y = norm(x, w, f"{name}.ln_1")
        x = (
            x
            + F.multi_head_attention_forward(
                *(y, y, y, x.shape[-1], heads),
                w[f"{name}.attn.in_proj_weight"],
                w[f"{name}.attn.in_proj_bias"],
                None,
                None,
                False,
                0.0,
                w[f"{name}.attn.out_proj.weight"],
                w[f"{name}.attn.out_proj.bias"],
                attn_mask=mask,
                need_weights=False,
            )[0]
        )
        y = F.linear(
            norm(x, w, f"{name}.ln_2"), w[f"{name}.mlp.c_fc.weight"], w[f"{name}.mlp.c_fc.bias"]
        )
        y = y * torch.sigmoid(1.702 * y) if quick else F.gelu(y)
        x = x + F.linear(y, w[f"{name}.mlp.c_proj.weight"], w[f"{name}.mlp.c_proj.bias"])
    return x


def image_features(images: Tensor, w: Any, quick: bool) -> Tensor:
    x = F.conv2d(images, w["visual.conv1.weight"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([w["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = norm(x + w["visual.positional_embedding"], w, "visual.ln_pre").transpose(0, 1)
    x = blocks(x, w, "visual.", 2, None, quick)
    return norm(x[0], w, "visual.ln_post") @ w["visual.proj"]


def text_features(ids: Tensor, w: Any, quick: bool) -> Tensor:
    """The token of the largest id stands for the text, as at the end token of CLIP's vocabulary."""
    n = ids.shape[1]
    x = (w["token_embedding.weight"][ids] + w["positional_embedding"][:n]).transpose(0, 1)
    x = blocks(x, w, "", 2, torch.full((n, n), float("-inf")).triu(1), quick).transpose(0, 1)
    x = norm(x, w, "ln_final")[torch.arange(len(ids)), ids.argmax(dim=1)]
    return x @ w["text_projection"]


@pytest.mark.parametrize(("custom_text", "quick_gelu"), [(False, True), (True, False)])
def test_both_towers_give_the_features_of_open_clip(
    custom_text: bool, quick_gelu: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    w = write_open_clip(folder, custom_text=custom_text, quick_gelu=quick_gelu)
    image_source = open_image_source(str(folder), projected=True)
    assert (image_source.image_size, image_source.mean) == (32, tuple(MEAN))
    image = ImageBackbone(net=image_source.net, image_size=32, pooling="projected")
    load_pretrained(image.net, image_source.weights(32), "model")
    text_source = open_text_source(str(folder), projected=True)
    text = TextBackbone(net=text_source.net, max_tokens=12, pooling="projected")
    load_pretrained(text.net, text_source.weights(), "model")
    images = torch.randn(3, 3, 32, 32)
    ids = torch.randint(5, 4000, (2, 9))
    with torch.no_grad():
        found = image(images).pooled, text(ids, torch.ones_like(ids, dtype=torch.bool)).pooled
    expected = image_features(images, w, quick_gelu), text_features(ids, w, quick_gelu)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_model_of_open_clip_is_measured_without_training(
    tmp_path: Path, pairs_folder: Path
) -> None:
    write_open_clip(tmp_path / "model")
    run = tijepa.train(
        pairs_folder,
        preset="photos-closed-form",
        out=tmp_path / "run",
        model__backbone=str(tmp_path / "model"),
        model__embed_dim=16,
        data__max_tokens=12,
        compute__threads=1,
    )
    assert run.results.own_cosine is not None
    assert run.results.own_cosine.num_images == 12
    assert tijepa.load(tmp_path / "run").energy(str(pairs_folder / "test-0.png"), "a").isfinite()


@pytest.mark.parametrize(
    ("section", "setting", "named"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base"}, "timm_model_name=vit_base"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "vision_cfg"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask=True"),
        ("text_cfg", {"pool_type": "last"}, "pool_type=last"),
        (None, {"multimodal_cfg": {"layers": 2}}, "multimodal_cfg"),
    ],
)
def test_what_is_no_plain_clip_is_refused_by_name(
    section: str | None, setting: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_open_clip(tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    config = json.loads(path.read_text())
    model = config["model_cfg"]
    (model if section is None else model[section]).update(setting)
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=named):
        open_image_source(str(tmp_path / "model"), projected=True)


def test_where_both_layouts_lie_that_of_transformers_is_read(tmp_path: Path) -> None:
    write_open_clip(tmp_path / "model")
    folder = BackboneFolder(tmp_path / "model", "model")
    assert is_open_clip(folder)
    assert clip_config(folder)["vision_config"]["num_attention_heads"] == 2
    (tmp_path / "model" / "config.json").write_text('{"model_type": "clip"}')
    assert not is_open_clip(folder)
