"""The tasks: what is visible, what is predicted. One mechanism runs every row of this table."""

from __future__ import annotations

from dataclasses import dataclass


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
