"""Tiny pretrained encoders of random weights, written as the libraries write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor

WORDS = ("a", "red", "green", "blue", "circle", "square", "left", "of", "dog", "runs", "the", "on")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def timm_vit(
    *, width: int = 64, depth: int = 2, patch: int = 16, grid: int = 2, class_token: bool = True
) -> dict[str, Tensor]:
    """Weights of a plain ViT by timm's names, strong enough that an error shows."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {
        "pos_embed": drawn(1, grid**2 + class_token, width),
        "patch_embed.proj.weight": drawn(width, 3, patch, patch),
        "patch_embed.proj.bias": drawn(width),
        "norm.weight": 1 + drawn(width),
        "norm.bias": drawn(width),
        "head.weight": drawn(5, width),
        "head.bias": drawn(5),
    }
    if class_token:
        weights["cls_token"] = drawn(1, 1, width)
    for block in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            weights[f"blocks.{block}.{name}.weight"] = drawn(rows, columns)
            weights[f"blocks.{block}.{name}.bias"] = drawn(rows)
        for name in ("norm1", "norm2"):
            weights[f"blocks.{block}.{name}.weight"] = 1 + drawn(width)
            weights[f"blocks.{block}.{name}.bias"] = drawn(width)
    return weights


def write_timm_vit(folder: Path, **arguments: Any) -> Path:
    """A folder that holds such weights alone."""
    folder.mkdir()
    safetensors.torch.save_file(timm_vit(**arguments), folder / "model.safetensors")
    return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, [CLS] before and [SEP] after each text."""
    vocabulary = {word: index for index, word in enumerate((*SPECIALS, *WORDS))}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.enable_truncation(5)  # as published ones do; the run's own length counts
    inner.enable_padding(length=5, pad_id=0)
    inner.save(str(folder / "tokenizer.json"))


def write_text_image_model(folder: Path, kind: str) -> Any:
    """A CLIP or SigLIP of random weights as transformers writes it, with all that it needs."""
    import transformers

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {"hidden_size": 32, "vocab_size": 4096, "max_position_embeddings": 12, **sizes, **ends}
    vision = {"hidden_size": 40, "image_size": 32, "patch_size": 16, **sizes}
    torch.manual_seed(0)
    if kind == "clip":
        whole = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model: Any = transformers.CLIPModel(whole)
    else:
        text["projection_size"] = 40
        model = transformers.SiglipModel(
            transformers.SiglipConfig(text_config=text, vision_config=vision)
        )
    for parameter in model.parameters():  # strong enough that an error shows
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.eval().save_pretrained(folder)
    write_tokenizer(folder)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def write_bert(folder: Path, *, layers: int = 2, pooling: str | None = None) -> Path:
    """A BERT as transformers writes it; with `pooling` as sentence-transformers writes it."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=4096,  # as large as a learned vocabulary, for batches of random ids
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    if pooling is not None:
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        modules = [
            {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for k, (kind, path) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder
