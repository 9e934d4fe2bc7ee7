"""One query of the gallery and its answers, as the report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Query", "Result"]


@dataclass(frozen=True)
class Result:
    """One answer: a picture, uint8 (height, width, 3), or a caption; with its energy."""

    energy: float
    is_match: bool
    picture: np.ndarray | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Query:
    """A text that asks for images, or a picture, uint8 (height, width, 3), that asks for texts.

    `results` come best first; the gallery shows the first five. `caption` of an answer that is a
    picture is optional and becomes its alternative text.
    """

    kind: Literal["text_to_image", "image_to_text"]
    results: Sequence[Result]
    text: str | None = None
    picture: np.ndarray | None = None
