"""Joint embeddings like those of a trained model, for tests of the search alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibrated_rows"]


def calibrated_rows(
    images: int, texts: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[u ; −a ; 1] and [v ; 1 ; −c] of D = 4, each text near an image's u."""
    generator = np.random.default_rng(seed)
    u = 3 * generator.standard_normal((images, 8))
    v = u[np.arange(texts) % images] + 0.3 * generator.standard_normal((texts, 8))
    b, d = generator.chisquare(4, images), generator.chisquare(4, texts)
    a = (np.square(u).sum(1) - b) / 2
    c = (np.square(v).sum(1) - d) / 2
    one = np.ones
    return (
        np.concatenate([u, -a[:, None], one((images, 1))], axis=1).astype(np.float32),
        np.concatenate([v, one((texts, 1)), -c[:, None]], axis=1).astype(np.float32),
    )
