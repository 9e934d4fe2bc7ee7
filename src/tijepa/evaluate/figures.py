"""What a registered evaluation is given: pairs with their energies. It returns figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from tijepa.inference.embeddings import Embeddings, SearchEnergies
from tijepa.registry import part


@dataclass(frozen=True)
class EvaluatedPairs:
    """The i images and t texts of a split, what the model makes of them, and which belong together.

    `energy` is by the model's default form, for both directions of search, low = compatible; text k
    describes image `image_of_text[k]`. `images` are what was encoded: pixels, or a frozen encoder's
    pooled features of them.
    """

    images: Float[Tensor, "i ..."]
    texts: list[str]
    image_of_text: Int[Tensor, " t"]
    embeddings: Embeddings
    energy: SearchEnergies


# Pure, and what it returns can be written as JSON.
Evaluation = Callable[[EvaluatedPairs], dict[str, Any]]


def figures(names: Iterable[str], pairs: EvaluatedPairs) -> dict[str, dict[str, Any]]:
    """What the evaluations of these names find; raises `ConfigError` for an unknown name."""
    return {name: part("evaluation", name)(pairs) for name in names}
