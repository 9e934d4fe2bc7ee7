"""CLIP by `transformers`, random weights, with its own processor and tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from tokenizers import pre_tokenizers

from encoding.shape import VOCABULARY, Shape, captions


def tokenizer() -> Any:
    """CLIP's tokenizer with a vocabulary learned from scenes; the published one needs network."""
    from transformers import CLIPTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    entries = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    empty = CLIPTokenizerFast(vocab={e: k for k, e in enumerate(entries)}, merges=[])
    learned = empty.train_new_from_iterator(captions("train", 2000), VOCABULARY)
    learned.model_max_length = 77
    return learned


class Peer:
    """One precision of it; batches go through at once, on all threads of torch."""

    def __init__(self, shape: Shape, precision: torch.dtype, tokens: Any) -> None:
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

        tower = {
            "hidden_size": shape.width,
            "intermediate_size": 4 * shape.width,
            "num_hidden_layers": shape.depth,
            "num_attention_heads": shape.heads,
            "hidden_act": "gelu",  # as ours; its quick_gelu is slower on a CPU
        }
        text = {
            "vocab_size": len(tokens),
            "max_position_embeddings": shape.tokens,
            "bos_token_id": tokens.bos_token_id,
            "eos_token_id": tokens.eos_token_id,
            "pad_token_id": tokens.pad_token_id,
        }
        vision = {"image_size": shape.size, "patch_size": shape.patch}
        config = CLIPConfig(
            vision_config={**tower, **vision},
            text_config={**tower, **text},
            projection_dim=shape.width,
        )
        torch.manual_seed(0)
        self.model = CLIPModel(config).eval().to(precision)
        self.precision = precision
        self.tokens = tokens
        self.processor = CLIPImageProcessorPil(
            size={"shortest_edge": shape.size},
            crop_size={"height": shape.size, "width": shape.size},
        )

    def prepared(self, images: list[Image.Image]) -> torch.Tensor:
        """Pixels as the model wants them."""
        found: torch.Tensor = self.processor(images, return_tensors="pt")["pixel_values"]
        return found

    @torch.inference_mode()
    def images(self, pixels: torch.Tensor) -> None:
        self.model.get_image_features(pixel_values=pixels.to(self.precision))

    @torch.inference_mode()
    def texts(self, batch: Any) -> None:
        self.model.get_text_features(**batch)

    def tokenized(self, texts: list[str]) -> Any:
        return self.tokens(texts, padding=True, truncation=True, return_tensors="pt")

    def work(self, images: list[Image.Image], texts: list[str]) -> dict[str, Callable[[], Any]]:
        """What is timed: from images and strings, and of the model alone."""
        pixels, batch = self.prepared(images), self.tokenized(texts)
        return {
            "image": lambda: self.images(self.prepared(images)),
            "text": lambda: self.texts(self.tokenized(texts)),
            "image, model alone": lambda: self.images(pixels),
            "text, model alone": lambda: self.texts(batch),
        }
