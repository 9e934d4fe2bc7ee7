"""Joint embeddings like those of a trained model, for tests of the search alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibrated_rows"]


def calibrated_rows(
    images: int, texts: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """√½ [u ; −½ ‖u‖² ; 1] and √½ [v ; 1 ; −c] of D = 8, each text near an image's u.

    The halves of calibrated rows by which images are found.
    """
    generator = np.random.default_rng(seed)
    u = 3 * generator.standard_normal((images, 8))
    v = u[np.arange(texts) % images] + 0.3 * generator.standard_normal((texts, 8))
    c = (np.square(v).sum(1) - generator.chisquare(8, texts)) / 2
    one, half = np.ones, np.sqrt(0.5)
    return (
        (
            half * np.concatenate([u, -np.square(u).sum(1, keepdims=True) / 2, one((images, 1))], 1)
        ).astype(np.float32),
        (half * np.concatenate([v, one((texts, 1)), -c[:, None]], axis=1)).astype(np.float32),
    )
