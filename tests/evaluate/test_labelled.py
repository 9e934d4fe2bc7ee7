from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tijepa.data import open_splits
from tijepa.data.pairs import PairSource
from tijepa.data.scenes import Scenes
from tijepa.errors import DataError
from tijepa.evaluate.zero_shot import labelled_images
from tijepa.model.saving import ModelCard

CARD = ModelCard({}, "tijepa", 32, 16)


def rows(folder: Path, values: list[object]) -> PairSource:
    """A source of small images whose column `kind` holds `values`."""
    lines = []
    for number, value in enumerate(values):
        Image.new("RGB", (40, 36), (40 * number % 255, 0, 9)).save(folder / f"{number}.png")
        row = {"image": f"{number}.png", "captions": [f"thing {number}"], "split": "test"}
        lines.append(json.dumps({**row, "kind": value, "other": number}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return open_splits(str(folder), image_size=32, seed=0, max_bad=0.5).split("test")


def test_scenes_of_one_object_are_labelled_by_what_it_is() -> None:
    """The labels are those of the ground truth, in the stream's order."""
    found = labelled_images(Scenes("test", 5, image_size=32, distinct=True), "colour", CARD, 6)
    stream = Scenes("test", 200, image_size=32)
    single = [s.objects[0] for s in map(stream.scene, range(200)) if len(s.objects) == 1][:6]
    assert found.values == [thing.colour for thing in single]
    assert found.images.shape == (6, 3, 32, 32)


def test_rows_without_a_value_are_left_out(tmp_path: Path) -> None:
    found = labelled_images(rows(tmp_path, ["dog", None, "cat", 3]), "kind", CARD, 9)
    assert found.values == ["dog", "cat", "3"]
    blue = torch.tensor(9 / 127.5 - 1)
    assert torch.allclose(found.images[:, 2], blue.expand(3, 32, 32), atol=1e-2)


def test_no_more_than_the_wanted_items_are_read(tmp_path: Path) -> None:
    assert len(labelled_images(rows(tmp_path, ["a", "b", "c"]), "kind", CARD, 2).values) == 2


def test_columns_and_values_that_are_no_labels_are_errors(tmp_path: Path) -> None:
    source = rows(tmp_path, [1.5, None])
    with pytest.raises(DataError, match="column 'sort' is unknown in this source; known: kind"):
        labelled_images(source, "sort", CARD, 9)
    with pytest.raises(DataError, match=r"column 'kind' holds 1\.5"):
        labelled_images(source, "kind", CARD, 9)
    with pytest.raises(DataError, match="unknown in scenes; known: colour, shape, size"):
        labelled_images(Scenes("test", 5, image_size=32), "hue", CARD, 9)
