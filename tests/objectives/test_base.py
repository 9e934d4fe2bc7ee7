from __future__ import annotations

import pytest

from tijepa.objectives.base import TASKS


@pytest.mark.parametrize(
    ("name", "needs_image", "needs_text", "hides", "predicts"),
    [
        ("text_to_image", True, True, False, "image"),
        ("image_to_text", True, True, False, "text"),
        ("image_infill", True, True, True, "image"),
        ("text_infill", True, True, True, "text"),
        ("image_only", True, False, True, "image"),
        ("text_only", False, True, True, "text"),
        ("fusion_infill", True, True, True, "image"),
    ],
)
def test_a_task_says_what_it_needs_and_predicts(
    name: str, needs_image: bool, needs_text: bool, hides: bool, predicts: str
) -> None:
    task = TASKS[name]
    assert (task.needs_image, task.needs_text) == (needs_image, needs_text)
    assert (task.hides, task.predicts) == (hides, predicts)


def test_no_task_shows_what_it_predicts() -> None:
    """The predicted modality is unseen, or seen in part with the hidden rest predicted."""
    assert len(TASKS) == 7
    for task in TASKS.values():
        seen = task.image if task.predicts == "image" else task.text
        assert seen in (None, "context")
