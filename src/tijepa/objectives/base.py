"""What every objective offers to the training step, and what it is given.

An objective splits its loss in two. `item_terms` are sums over items, computed from encoders that
treat items one by one; a micro-batch at a time is exact. `batch_terms` look at the pooled tokens
of the whole batch (heads with BatchNorm, regularizers, contrastive losses); the step gives them
the whole batch even when it is accumulated in micro-batches, so accumulation is exact for every
objective.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from tijepa.data.pairs import Batch
from tijepa.model.encoded import Encoded
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.distributed import Distributed, SingleProcess
from tijepa.objectives.masks import SHORTEST, Masks


def long_texts(batch: Batch) -> Bool[Tensor, " b"]:
    """Rows with a caption of which a part can be hidden."""
    return batch.has_text & (batch.token_mask.sum(dim=1) >= SHORTEST)


def index_of(rows: NDArray[np.bool_], like: Tensor) -> Int[Tensor, " r"]:
    """The numbers of the True `rows`, on the device of `like`.

    Indexing by it gives what the mask gives, but the host knows the size of the result and does not
    wait for the device to count.
    """
    return torch.from_numpy(np.flatnonzero(rows)).to(like.device, non_blocking=True)


@dataclass(frozen=True)
class Counts:
    """How many items of the whole batch a task can use; the divisors of its mean.

    `long_texts` and `long_pairs` have a caption of which a part can be hidden.
    """

    images: int
    texts: int
    pairs: int
    long_texts: int
    long_pairs: int

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        """Count the rows of a batch; the host knows them."""
        image, text = batch.contents.has_image, batch.contents.has_text
        long = text & (batch.contents.lengths >= SHORTEST)
        rows = (image, text, image & text, long, image & long)
        return cls(*(int(np.count_nonzero(row)) for row in rows))


@dataclass(frozen=True)
class Encodings:
    """Context encodings of the whole image and the whole text, and the targets' of the same."""

    image: Encoded
    text: Encoded
    target_image: Encoded | None
    target_text: Encoded | None


@dataclass(frozen=True)
class Pooled:
    """Pooled tokens of a whole batch: what `batch_terms` sees of the encodings.

    Which rows hold an image and which a text is known to the host; `index_of` turns such rows into
    an index for the tensors.
    """

    image: Float[Tensor, "b i"]
    text: Float[Tensor, "b t"]
    target_image: Float[Tensor, "b i"] | None
    target_text: Float[Tensor, "b t"] | None
    has_image: NDArray[np.bool_]
    has_text: NDArray[np.bool_]

    @property
    def pairs(self) -> Int[Tensor, " p"]:
        """The numbers of the rows with an image and a text, on the device."""
        return index_of(self.has_image & self.has_text, self.image)


@dataclass(frozen=True)
class DrawnMasks:
    """Masks of one batch; None for a modality that no task hides anything of."""

    image: Masks | None
    text: Masks | None

    def part(self, start: int, stop: int) -> DrawnMasks:
        """Rows `start` to `stop`."""
        return DrawnMasks(
            None if self.image is None else self.image.part(start, stop),
            None if self.text is None else self.text.part(start, stop),
        )


@dataclass(frozen=True)
class ObjectiveOutput:
    """A loss, and named readings of its parts (detached, unweighted) for the log."""

    loss: Float[Tensor, ""]
    readings: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """What is minimised; owns parameters only where the method has some (a temperature).

    It is registered under its name, and called with the settings that it brings and `processes`,
    those that share every batch.
    """

    needs_targets: bool = False  # whether the target encoders must encode the batch
    needs_pooled: bool = True  # whether `batch_terms` does anything

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__()
        self.processes = processes or SingleProcess()

    def draw_masks(self, batch: Batch, grid: int, rng: np.random.Generator) -> DrawnMasks:
        """Masks for this batch; none unless the objective hides something."""
        return DrawnMasks(None, None)

    @abstractmethod
    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """The part of the loss that is a function of the pooled tokens of the whole batch."""

    def item_terms(
        self,
        model: TextImageModel,
        batch: Batch,
        encodings: Encodings,
        masks: DrawnMasks,
        counts: Counts,
    ) -> ObjectiveOutput | None:
        """The part of the loss that is a sum over items, divided by the batch's `counts`."""
        return None


# The tasks: what is visible, what is predicted. One mechanism runs every row of this table.


@dataclass(frozen=True)
class Task:
    """One row.

    `image` and `text` say what the context encoder of that modality sees: "all", the visible
    "context" part, or nothing (None). `predicts` is the modality whose target tokens are
    predicted: all of them, or, where the context hides some, the hidden ones. With `fused`, context
    and target are image tokens that have read the text, and each target block is predicted alone.
    """

    image: str | None
    text: str | None
    predicts: str
    fused: bool = False

    @property
    def hides(self) -> bool:
        """Whether the predicted tokens are hidden ones of a partly visible modality."""
        return "context" in (self.image, self.text)

    @property
    def needs_image(self) -> bool:
        """Whether items without image are of no use to the task."""
        return self.image is not None or self.predicts == "image"

    @property
    def needs_text(self) -> bool:
        """Whether items without text are of no use to the task."""
        return self.text is not None or self.predicts == "text"


TASKS: dict[str, Task] = {
    "text_to_image": Task(image=None, text="all", predicts="image"),
    "image_to_text": Task(image="all", text=None, predicts="text"),
    "image_infill": Task(image="context", text="all", predicts="image"),
    "text_infill": Task(image="all", text="context", predicts="text"),
    "image_only": Task(image="context", text=None, predicts="image"),
    "text_only": Task(image=None, text="context", predicts="text"),
    "fusion_infill": Task(image="context", text="all", predicts="image", fused=True),
}
