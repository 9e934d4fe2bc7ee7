from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tijepa.data import open_splits
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import append_store, write_store


def test_scenes_are_not_stored() -> None:
    scenes = open_splits("scenes", image_size=32, seed=0, max_bad=0.0)
    assert {"train", "validation", "test"} <= set(scenes.splits)
    assert (scenes.uri, scenes.version) == (None, None)
    image = scenes.split("validation").image(0, 32)
    assert image is not None
    assert image.shape == (32, 32, 3)


def test_a_folder_and_the_store_made_of_it_hold_the_same(
    pairs_folder: Path, tmp_path: Path
) -> None:
    uri = str(tmp_path / "pairs.lance")
    write_store(open_reader(str(pairs_folder)), uri)
    folder, store = (
        open_splits(source, image_size=32, seed=0, max_bad=0.0)
        for source in (str(pairs_folder), uri)
    )
    assert list(folder.splits) == list(store.splits) == ["train", "validation", "test"]
    for name, source in folder.splits.items():
        other = store.split(name)
        assert len(source) == len(other)
        ours, theirs = (s.read(range(len(s))) for s in (source, other))
        assert ours == theirs
    pixels = store.split("test").image(3, 0)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(pairs_folder / "test-3.png")))


def test_a_version_of_a_store_can_be_asked_for(pairs_folder: Path, tmp_path: Path) -> None:
    uri = str(tmp_path / "pairs.lance")
    write_store(open_reader(str(pairs_folder)), uri)
    (tmp_path / "more").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "more/a.png")
    row = '{"image": "a.png", "captions": ["black"], "split": "train"}\n'
    (tmp_path / "more/captions.jsonl").write_text(row)
    append_store(open_reader(str(tmp_path / "more")), uri)
    for version, count in ((None, 33), (1, 32), (2, 33)):
        splits = open_splits(uri, image_size=32, seed=0, max_bad=0.0, version=version)
        assert len(splits.split("train")) == count


@pytest.mark.parametrize(
    ("folder", "sizes"),
    [
        ("flickr8k", {"train": 6091, "validation": 1000, "test": 1000}),
        ("mvsa_single", {"train": 4000, "test": 511, "unlabelled": 358}),
    ],
)
def test_real_photos_open_without_options(
    folder: str, sizes: dict[str, int], real_data: Path
) -> None:
    source = str(real_data / "data" / folder)
    splits = open_splits(source, image_size=64, seed=0, max_bad=0.0)
    assert {name: len(source) for name, source in splits.splits.items()} == sizes
    assert splits.rejected == ()
