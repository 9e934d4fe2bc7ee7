"""Joint embeddings like those of a trained model, by the million."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["texts_of", "write_images"]

DIMENSIONS = 64  # D of the preset scenes; a calibrated row has 2 D + 2 numbers
CLUSTERS = 20_000
WITHIN = 0.5  # share of the variance that is not between clusters
_BLOCK = 65_536

# Variances along principal axes of the images' u, as read from a run of the preset scenes on 2,500
# scenes (ranks from 0), and in between on a logarithmic line.
SPECTRUM = {0: 43.0, 4: 37.0, 8: 29.0, 16: 23.0, 32: 3.2, 64: 0.05, 100: 0.01, 127: 0.002}


def _variances() -> NDArray[np.float32]:
    ranks = np.arange(2 * DIMENSIONS)
    logs = np.interp(ranks, list(SPECTRUM), np.log(list(SPECTRUM.values())))
    return np.exp(logs).astype(np.float32)


def _rotation(seed: int) -> NDArray[np.float32]:
    square = np.random.default_rng([seed, 1]).standard_normal((2 * DIMENSIONS,) * 2)
    return np.linalg.qr(square)[0].astype(np.float32)


def write_images(path: Path, count: int, seed: int) -> NDArray[np.float32]:
    """`count` rows [u ; −a ; 1], written to `path` block by block and mapped from there.

    u is a mixture of Gaussians. Half of its axes are the images' own target, whose term b is half
    the squared length of the whitened target (`objectives/calibration.py`); a = ½ ‖u‖² − ½ b.
    """
    variance, rotation = _variances(), _rotation(seed)
    spread = np.sqrt(variance)
    generator = np.random.default_rng([seed, 0])
    centres = generator.standard_normal((CLUSTERS, 2 * DIMENSIONS), np.float32)
    centres *= spread * np.float32(np.sqrt(1 - WITHIN))
    with open(path, "wb") as file:
        for start in range(0, count, _BLOCK):
            rows = min(_BLOCK, count - start)
            u = generator.standard_normal((rows, 2 * DIMENSIONS), np.float32)
            u = centres[generator.integers(0, CLUSTERS, rows)] + u * spread * np.sqrt(WITHIN)
            b = np.square(u[:, ::2] / spread[::2]).sum(axis=1) / 2
            a = np.square(u).sum(axis=1) / 2 - b / 2
            one = np.ones((rows, 1))
            block = np.concatenate([u @ rotation, -a[:, None], one], axis=1)
            file.write(block.astype("<f4").tobytes())
    return np.memmap(path, "<f4", "r", shape=(count, 2 * DIMENSIONS + 2))


def texts_of(images: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Rows [v ; 1 ; −c] of texts that belong to images at random.

    u − v is the whitened residual of both directions over √2, so its covariance is ½ I.
    """
    generator = np.random.default_rng([seed, 2])
    own = np.sort(generator.choice(len(images), count, replace=False))
    v = images[own, :-2] + generator.standard_normal((count, 2 * DIMENSIONS)) / np.sqrt(2)
    ends = np.concatenate([np.ones((count, 1)), np.full((count, 1), -300.0)], axis=1)
    return np.concatenate([v, ends], axis=1).astype(np.float32)
