from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tijepa.classify.labels import Items, read_items
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.errors import DataError


def store_of(folder: Path, values: list[Any]) -> PairSplits:
    rows = []
    for number, value in enumerate(values):
        Image.new("RGB", (8, 8), (number * 9 % 256, 0, 0)).save(folder / f"{number}.png")
        row = {"image": f"{number}.png", "text": f"text {number}", "split": "train"}
        rows.append({**row, "value": value})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_splits(str(folder), image_size=8, seed=0, max_bad=0.5)


def test_items_that_lack_a_side_are_left_out_and_counted(splits: PairSplits) -> None:
    """46 items of the split; a pair needs both sides, an image or a text one."""
    pair = read_items(splits, "train", "mood", "pair")
    assert (len(pair), pair.left_out) == (44, {"no text": 1, "no image": 1})
    assert (len(pair.labelled), pair.labelled.classes) == (40, ["gloomy", "sunny"])
    image = read_items(splits, "train", "mood", "image")
    assert (len(image), image.left_out) == (45, {"no image": 1})
    text = read_items(splits, "train", "mood", "text")
    assert (len(text), text.left_out) == (45, {"no text": 1})


def _together(items: Items) -> list[set[str]]:
    groups: dict[int, set[str]] = {}
    for item, group in zip(items.ids, items.group.tolist(), strict=True):
        groups.setdefault(group, set()).add(item)
    return sorted((group for group in groups.values() if len(group) > 1), key=min)


def test_equal_images_and_equal_texts_are_copies(splits: PairSplits) -> None:
    same_image = {"train-3.png", "train-5.png"}
    same_text = {"train-0.png", "train-2.png"}
    found = _together(read_items(splits, "train", "mood", "pair"))
    assert found == [same_text, same_image]
    assert _together(read_items(splits, "train", "mood", "image")) == [same_image]
    only = read_items(splits, "train", "mood", "pair", same_text=False)
    assert _together(only) == [same_image]


def test_whole_numbers_and_truth_values_are_labels(tmp_path: Path, splits: PairSplits) -> None:
    assert read_items(splits, "train", "stars", "pair").classes == ["0", "1", "2"]
    found = read_items(store_of(tmp_path, [True, False, None, True]), "train", "value", "pair")
    assert found.labels == ["True", "False", None, "True"]


def test_what_stands_in_a_list_is_no_label(tmp_path: Path) -> None:
    found = read_items(store_of(tmp_path, [["a", "b"], "a", " ", "b"]), "train", "value", "pair")
    assert found.labels == [None, "a", None, "b"]


@pytest.mark.parametrize("value", [0.5, {"a": 1}])
def test_what_cannot_be_a_label_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match=r"item 0\.png has .* which is no label"):
        read_items(store_of(tmp_path, [value, value]), "train", "value", "pair")


def test_an_id_is_not_taken_for_a_label(tmp_path: Path) -> None:
    found = read_items(store_of(tmp_path, list("abcdef")), "train", "value", "pair")
    with pytest.raises(DataError, match="labels of 6 items have 6 different values"):
        _ = found.classes


def test_one_class_is_refused(tmp_path: Path) -> None:
    found = read_items(store_of(tmp_path, ["a", "a", None]), "train", "value", "pair")
    with pytest.raises(DataError, match="has 1 different labels: at least 2"):
        _ = found.classes


def test_an_unknown_label_of_another_split_is_named(splits: PairSplits) -> None:
    with pytest.raises(DataError, match="label 'gloomy' of split 'test' is none of"):
        read_items(splits, "test", "mood", "pair").numbers(["sunny", "cold"])


def test_an_unknown_column_or_split_or_source_is_named(splits: PairSplits) -> None:
    with pytest.raises(DataError, match=r"column 'temper' is unknown .* mood, stars"):
        read_items(splits, "train", "temper", "pair")
    with pytest.raises(DataError, match="split 'dev' is unknown"):
        read_items(splits, "dev", "mood", "pair")
    scenes = open_splits("scenes", image_size=32, seed=0, max_bad=0.01)
    with pytest.raises(DataError, match="has no label columns: give a pair store"):
        read_items(scenes, "train", "mood", "pair")
