"""Pictures, captions and tiny pretrained encoders for the golden runs, all made by code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from PIL import Image
from tokenizers import models, normalizers, pre_tokenizers, processors

COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 210),
    "yellow": (230, 210, 50),
    "purple": (150, 50, 170),
    "orange": (240, 140, 30),
}
GROUNDS = {"black": (15, 15, 20), "white": (240, 240, 235), "grey": (120, 125, 120)}
PLACES = ("left", "right", "top", "bottom")
KINDS = len(COLOURS) * len(GROUNDS) * len(PLACES)  # 72
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (*COLOURS, *GROUNDS, *PLACES, "a", "box", "at", "the", "on", "with", "ground")


def write_pairs(
    folder: Path, counts: dict[str, int], *, size: int, ending: str = "png", unpaired: int = 0
) -> Path:
    """A folder of pictures of one box each, two captions a picture, a column `colour`.

    `counts` pictures of each split, all of them different. Of the training split further
    `unpaired` pictures have no caption, and as many texts have no picture.
    """
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    number = 0

    def draw(split: str, captions: bool) -> dict[str, Any]:
        nonlocal number
        colour, ground, place = _kind(number)
        name = f"{number:03d}.{ending}"
        quality = {"quality": 90} if ending == "jpg" else {}
        Image.fromarray(_picture(colour, ground, place, size)).save(folder / name, **quality)
        texts = [f"a {colour} box at the {place}", f"{ground} ground with a {colour} box on it"]
        number += 1
        return {
            "image": name,
            "captions": texts if captions else [],
            "split": split,
            "colour": colour,
        }

    for split, count in counts.items():
        rows += [draw(split, True) for _ in range(count)]
    for _ in range(unpaired):
        rows.append(draw("train", False))
        text = f"the {PLACES[number % 4]} with box {number}"
        rows.append({"image": None, "captions": [text], "split": "train", "colour": None})
    assert number <= KINDS, "pictures repeat beyond that"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "captions.jsonl").write_text(lines)
    return folder


def _kind(number: int) -> tuple[str, str, str]:
    """The pictures in an order in which neighbours differ in everything: 35 and 72 are coprime."""
    mixed = number * 35 % KINDS
    colour, rest = mixed % len(COLOURS), mixed // len(COLOURS)
    return (
        tuple(COLOURS)[colour],
        tuple(GROUNDS)[rest % len(GROUNDS)],
        PLACES[rest // len(GROUNDS)],
    )


def _picture(colour: str, ground: str, place: str, size: int) -> np.ndarray[Any, Any]:
    pixels = np.full((size, size, 3), GROUNDS[ground], np.uint8)
    half, thin = size // 2, size // 5
    area = {
        "left": np.s_[thin:-thin, thin:half],
        "right": np.s_[thin:-thin, half:-thin],
        "top": np.s_[thin:half, thin:-thin],
        "bottom": np.s_[half:-thin, thin:-thin],
    }[place]
    pixels[area] = COLOURS[colour]
    return pixels


def write_backbones(folder: Path) -> dict[str, Path]:
    """Folders of a ViT for pictures of 32 pixels and of a BERT, as transformers writes them."""
    import transformers

    vit = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    bert = transformers.BertConfig(
        vocab_size=len(SPECIALS) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    folders = {"image": folder / "vit", "text": folder / "bert"}
    for model, place in zip(
        (transformers.ViTModel(vit), transformers.BertModel(bert)), folders.values(), strict=True
    ):
        _draw_weights(model)
        model.save_pretrained(place)
    normal = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
    (folders["image"] / "preprocessor_config.json").write_text(json.dumps(normal))
    _write_tokenizer(folders["text"])
    return folders


def _draw_weights(model: torch.nn.Module) -> None:
    """Weights that do not depend on how a version of transformers begins."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            drawn = torch.randn(value.shape, generator=generator) * 0.2
            value.copy_(drawn + 1 if "norm" in name.lower() and name.endswith("weight") else drawn)


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {word: index for index, word in enumerate((*SPECIALS, *WORDS))}
    words = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words.save(str(folder / "tokenizer.json"))
