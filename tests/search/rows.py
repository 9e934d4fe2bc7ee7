"""Joint embeddings like those of a trained model, for tests of the search alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibrated_rows"]


def calibrated_rows(
    images: int, texts: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """√½ [w ; −a ; 1] and √½ [w ; 1 ; −c] of 8 dimensions, each text near an image's w.

    The halves of calibrated rows by which images, or the other way round texts, are found.
    """
    generator = np.random.default_rng(seed)
    w = 3 * generator.standard_normal((images, 8))
    v = w[np.arange(texts) % images] + 0.3 * generator.standard_normal((texts, 8))
    b, d = generator.chisquare(4, (images, 1)), generator.chisquare(4, (texts, 1))
    a = (np.square(w).sum(1, keepdims=True) - b) / 2
    c = (np.square(v).sum(1, keepdims=True) - d) / 2
    image = np.concatenate([w, -a, np.ones((images, 1))], axis=1)
    text = np.concatenate([v, np.ones((texts, 1)), -c], axis=1)
    half = np.sqrt(0.5)
    return (half * image).astype(np.float32), (half * text).astype(np.float32)
