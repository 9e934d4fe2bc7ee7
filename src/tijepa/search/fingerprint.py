"""Which model made some embeddings: a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json

from tijepa.embedder import Embedder
from tijepa.model.backbones.weights import hash_of_weights

__all__ = ["fingerprint"]


_LAYOUT = 2  # of a calibrated row: a half for each search


def fingerprint(embedder: Embedder) -> str:
    """24 hexadecimal digits that card, tokenizer, weights, calibration and layout decide.

    Equal for a run folder and a copy of its model elsewhere; a gigabyte of weights takes a second.
    """
    calibration = {} if embedder.calibration is None else embedder.calibration.state()
    made = [
        _LAYOUT,
        embedder.card.__dict__,
        embedder.tokenizer.fingerprint(),
        hash_of_weights(embedder.model.state_dict()),
        hash_of_weights(calibration),
    ]
    text = json.dumps(made, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
