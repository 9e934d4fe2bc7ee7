from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tijepa.data.records import Record
from tijepa.data.validation import Diagnosis, Report
from tijepa.data.validation.check import validate_parallel


def records(folder: Path, file: str) -> Iterator[Record]:
    for number, line in enumerate((folder / file).read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        captions = row["captions"] if "captions" in row else [row["text"]]
        image = (folder / row["image"]).read_bytes()
        extra = {"label": row["label"]} if "label" in row else {}
        yield Record(
            row["image"], f"line {number + 1}", image, tuple(captions), row["split"], extra
        )


def diagnosed(folder: Path, file: str, out: Path) -> Report:
    with Diagnosis(out, source=str(folder), description=file) as diagnosis:
        for item in validate_parallel(diagnosis.account.taking(records(folder, file)), threads=2):
            diagnosis.add(item)
        return diagnosis.finish()


def test_flickr8k_is_fit_and_holds_one_pair_of_equal_photos(
    real_data: Path, tmp_path: Path
) -> None:
    """The two files are equal byte for byte, but people wrote other captions for each of them."""
    report = diagnosed(real_data / "data/flickr8k", "captions.jsonl", tmp_path)
    assert report.fit
    counts = report.facts["counts"]
    assert (counts["items"], counts["pairs"], counts["captions"]) == (8_091, 8_091, 40_455)
    splits = {name: numbers["items"] for name, numbers in report.facts["splits"].items()}
    assert splits == {"train": 6_091, "val": 1_000, "test": 1_000}
    found = {kind: entry["listed"] for kind, entry in report.facts["duplicates"].items()}
    assert found == {
        "duplicate-image": [
            ["images/2851198725_37b6027625.jpg", "images/3050606344_af711c726c.jpg"]
        ],
        "duplicate-item": [],
        "image-in-two-splits": [],
        "near-duplicate": [],
        "near-in-two-splits": [],
    }


def test_tweets_that_stand_in_two_splits_of_mvsa_are_found(real_data: Path, tmp_path: Path) -> None:
    """Independent count: files by their SHA-256, and all pairs of tweets by image and text."""
    folder = real_data / "data/mvsa_single"
    splits = defaultdict(set)
    items: dict[tuple[str, str, str], int] = defaultdict(int)
    for record in records(folder, "pairs.jsonl"):
        assert record.image is not None
        assert record.split is not None
        digest = hashlib.sha256(record.image).hexdigest()
        splits[digest].add(record.split)
        items[digest, record.captions[0], record.split] += 1
    across = sum(len(names) > 1 for names in splits.values())
    twice = sum(count > 1 for count in items.values())
    assert (across, twice) == (17, 22)

    report = diagnosed(folder, "pairs.jsonl", tmp_path)
    assert report.fit
    duplicates = report.facts["duplicates"]
    assert duplicates["image-in-two-splits"]["groups"] == across
    assert duplicates["duplicate-item"]["groups"] == twice
    assert duplicates["near-in-two-splits"]["groups"] == 39
    assert sum(report.facts["labels"]["label"].values()) == 4_869


def test_near_groups_of_mvsa_are_those_of_all_pairs(real_data: Path) -> None:
    """The first 1,500 tweets, every pair compared."""
    import numpy as np

    from tijepa.data.validation.check import check_record
    from tijepa.data.validation.near import is_plain, near_components

    looks = []
    for _, record in zip(
        range(1_500), records(real_data / "data/mvsa_single", "pairs.jsonl"), strict=False
    ):
        sound = check_record(record).sound
        assert sound is not None
        assert sound.image is not None
        looks.append(sound.image.difference_hash)
    hashes = np.unique(np.array(looks, dtype=np.uint64))
    hashes = hashes[~is_plain(hashes)]
    found = near_components(hashes)
    values = hashes.tolist()
    linked = 0
    for row, value in enumerate(values):
        for other in range(row):
            if (value ^ values[other]).bit_count() <= 3:
                linked += 1
                assert found[row] == found[other]
    assert linked > 0
    assert len(np.unique(found)) >= len(values) - linked
