"""Which model made some embeddings: a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from tijepa.embedder import Embedder

__all__ = ["fingerprint"]


def fingerprint(embedder: Embedder) -> str:
    """Hex digest of 96 bits over card, tokenizer, weights and calibration.

    Equal for a run folder and a copy of its model elsewhere; a gigabyte of weights takes a second.
    """
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps(embedder.card.__dict__, sort_keys=True).encode())
    with tempfile.TemporaryDirectory(prefix="tijepa-") as folder:
        embedder.tokenizer.save(Path(folder) / "tokenizer.json")
        digest.update((Path(folder) / "tokenizer.json").read_bytes())
    tensors = dict(embedder.model.state_dict())
    if embedder.calibration is not None:
        tensors |= {f"calibration {k}": v for k, v in embedder.calibration.state().items()}
    for name in sorted(tensors):
        _add(digest, name, tensors[name])
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, name: str, tensor: Tensor) -> None:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
    digest.update(plain.view(torch.uint8).numpy().data)
