from __future__ import annotations

import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from tijepa.data.readers import open_reader
from tijepa.data.records import Record
from tijepa.data.scenes import Scenes
from tijepa.errors import DataError


def test_scenes_are_records_with_their_ground_truth() -> None:
    source = Scenes("train", 3, seed=5)
    for index, record in enumerate(itertools.islice(open_reader("scenes:5"), 3)):
        assert isinstance(record, Record)
        assert (record.id, record.split) == (source.item_id(index), "train")
        assert record.captions == source.captions(index)
        assert record.image is not None
        with Image.open(io.BytesIO(record.image)) as image:
            assert np.array_equal(np.asarray(image), source.image(index, 0))
        assert json.loads(json.dumps(record.extra)) == record.extra
        objects = source.scene(index).objects
        assert [thing["colour"] for thing in record.extra["objects"]] == [
            thing.colour for thing in objects
        ]


def test_the_seed_is_zero_unless_given_and_tells_fingerprints_apart() -> None:
    assert open_reader("scenes").fingerprint() == open_reader("scenes:0").fingerprint()
    assert open_reader("scenes").fingerprint() != open_reader("scenes:1").fingerprint()
    assert open_reader("scenes").count() == 106_000
    assert "seed 1" in open_reader("scenes:1").describe()


def test_the_first_of_each_split_are_those_of_the_whole() -> None:
    first = [record.id for record in open_reader("scenes").first(2) if isinstance(record, Record)]
    splits = ("train", "validation", "test", "novel")
    assert [name.split("/")[1] for name in first] == [split for split in splits for _ in range(2)]
    whole = itertools.islice(open_reader("scenes"), 2)
    assert first[:2] == [record.id for record in whole if isinstance(record, Record)]


def test_other_names_of_scenes_are_refused() -> None:
    with pytest.raises(DataError, match="write scenes or scenes:SEED"):
        open_reader("scenes:x", reader="scenes")
