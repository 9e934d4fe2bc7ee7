"""Random numbers by counter: a value depends on its words (seed, purpose, position) alone.

There is no state to save, so any position of a stream is reached at once and in any order. The
mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hash_words", "uniforms"]

Words = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def hash_words(*words: int | Words) -> Words:
    """64 well-mixed bits for each row of `words`, which broadcast against each other.

    Numbers must lie in [0, 2^64). The result has at least one dimension. For fixed leading words
    it is injective in the last one.
    """
    state = np.zeros(1, dtype=np.uint64)
    for word in words:
        state = _mix(state ^ np.atleast_1d(np.asarray(word, dtype=np.uint64)))
    return state


def uniforms(*words: int | Words) -> NDArray[np.float64]:
    """Numbers in [0, 1), multiples of 2^-53, from `hash_words`."""
    return (hash_words(*words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Words) -> Words:
    x = x + _STEP
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLY_1
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLY_2
    return x ^ (x >> np.uint64(31))
