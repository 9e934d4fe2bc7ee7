"""Our towers of the same shape, random weights, by `Embedder` in torch or onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from encoding.shape import VOCABULARY, Shape, captions
from tijepa import Embedder, load
from tijepa.data.tokenizer import Tokenizer
from tijepa.export.onnx import export_run
from tijepa.inference.inputs import image_inputs
from tijepa.inference.parallel import encode_images, encode_texts
from tijepa.io.progress import SILENT
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel


def saved(shape: Shape, folder: Path) -> Path:
    """A saved model: linear patches and a class token, as CLIP has; our heads and predictors."""
    tokenizer = Tokenizer.train(captions("train", 2000), VOCABULARY)
    tower = {"width": shape.width, "depth": shape.depth, "heads": shape.heads, "pooling": "class"}
    mlp = {"depth": 1, "hidden": 512, "norm": "batch"}
    arguments = {
        "encoders": {
            "image": {
                "image_size": shape.size,
                "patch_size": shape.patch,
                "stem": "linear",
                **tower,
            },
            "text": {"vocab_size": tokenizer.vocab_size, "max_tokens": shape.tokens, **tower},
            "head": mlp,
            "embed_dim": shape.width,
        },
        "predictors": {"embed_dim": shape.width, "pooled": mlp, "tokens": None},
        "ema": False,
    }
    torch.manual_seed(0)
    model = TextImageModel(**arguments)
    card = ModelCard(arguments, "tijepa", shape.size, shape.tokens)
    return Embedder(model, tokenizer, card).save(folder)


def exported(model: Path, out: Path) -> Path:
    """The same as ONNX, in float32 and int8."""
    export_run(model, out, int8=True, reporter=SILENT)
    return out


def work(
    embedder: Embedder, images: list[Image.Image], texts: list[str]
) -> dict[str, Callable[[], Any]]:
    """What is timed: from images and strings, and of the model alone.

    Texts are tokenized within "model alone" too, sorted by length; theirs are not.
    """
    backend, card, tokenizer = embedder.backend, embedder.card, embedder.tokenizer
    size = len(images)
    pixels = image_inputs(images, slice(0, size), card)
    return {
        "image": lambda: encode_images(backend, card, images, size),
        "text": lambda: encode_texts(backend, card, tokenizer, texts, size),
        "image, model alone": lambda: encode_images(backend, card, pixels, size),
        "text, model alone": lambda: encode_texts(backend, card, tokenizer, texts, size),
    }


def loaded(model: Path, graphs: Path) -> dict[str, Embedder]:
    """Every way to run it."""
    return {
        "tijepa, float32": load(model),
        "tijepa, bfloat16": load(model, precision="bfloat16"),
        "tijepa, onnx float32": load(graphs, backend="onnx"),
        "tijepa, onnx int8": load(graphs, backend="onnx", precision="int8"),
    }
