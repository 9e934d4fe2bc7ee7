"""Searched halves of calibrated rows, like those of a trained model, by the million."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["texts_of", "write_images"]

NUMBERS = 160  # of w, about those of the preset scenes; the half of a row has two more
CLUSTERS = 20_000
WITHIN = 0.5  # share of the variance that is not between clusters
_BLOCK = 65_536

# Variances along principal axes of both halves of the images' rows, as read from a run of the
# preset scenes on 2,500 scenes (ranks from 0), and in between on a logarithmic line.
SPECTRUM = {0: 43.0, 4: 37.0, 8: 29.0, 16: 23.0, 32: 3.2, 64: 0.05, 100: 0.01, 127: 0.002}


def _variances() -> NDArray[np.float32]:
    ranks = np.arange(NUMBERS)
    logs = np.interp(ranks, list(SPECTRUM), np.log(list(SPECTRUM.values())))
    return np.exp(logs).astype(np.float32)


def _rotation(seed: int) -> NDArray[np.float32]:
    square = np.random.default_rng([seed, 1]).standard_normal((NUMBERS,) * 2)
    return np.linalg.qr(square)[0].astype(np.float32)


def write_images(path: Path, count: int, seed: int) -> NDArray[np.float32]:
    """`count` rows √½ [w ; −a ; 1], written to `path` block by block and mapped from there.

    √½ w is a mixture of Gaussians. Every fourth of its axes is the images' own target, whose term b
    is half the squared length of the whitened target; a = ½ ‖w‖² − ¼ b.
    """
    variance, rotation = _variances(), _rotation(seed)
    spread = np.sqrt(variance)
    generator = np.random.default_rng([seed, 0])
    centres = generator.standard_normal((CLUSTERS, NUMBERS), np.float32)
    centres *= spread * np.float32(np.sqrt(1 - WITHIN))
    with open(path, "wb") as file:
        for start in range(0, count, _BLOCK):
            rows = min(_BLOCK, count - start)
            u = generator.standard_normal((rows, NUMBERS), np.float32)
            u = centres[generator.integers(0, CLUSTERS, rows)] + u * spread * np.sqrt(WITHIN)
            b = np.square(u[:, ::4] / spread[::4]).sum(axis=1, keepdims=True) / 2
            a = np.square(u).sum(axis=1, keepdims=True) - b / 4
            ends = [-a * np.sqrt(0.5), np.full((rows, 1), np.sqrt(0.5))]
            block = np.concatenate([u @ rotation, *ends], axis=1)
            file.write(block.astype("<f4").tobytes())
    return np.memmap(path, "<f4", "r", shape=(count, NUMBERS + 2))


def texts_of(images: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Rows √½ [w ; 1 ; −c] of texts that belong to images at random.

    √½ (w_i − w_t) is half of a whitened residual: its covariance is ¼ I.
    """
    generator = np.random.default_rng([seed, 2])
    own = np.sort(generator.choice(len(images), count, replace=False))
    v = images[own, :-2] + generator.standard_normal((count, NUMBERS)) / 2
    ends = np.tile([np.sqrt(0.5), -300.0], (count, 1))
    return np.concatenate([v, ends], axis=1).astype(np.float32)
