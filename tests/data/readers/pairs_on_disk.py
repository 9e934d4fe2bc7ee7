"""Twelve pairs, and their writers in every layout that the readers take."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SPLITS = ("train",) * 8 + ("validation",) * 2 + ("test",) * 2
PUBLISHED = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Pair:
    image: bytes
    captions: tuple[str, ...]
    split: str


def jpeg(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (number * 20 % 256, 90, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def pairs() -> list[Pair]:
    """Pair i has i % 3 + 1 captions with quotes, separators and letters beyond ASCII."""
    return [
        Pair(
            jpeg(number),
            tuple(f'{number}: "ä", b; c|d\te {place} 犬' for place in range(number % 3 + 1)),
            split,
        )
        for number, split in enumerate(SPLITS)
    ]


def _images(folder: Path, items: Sequence[Pair]) -> None:
    for number, pair in enumerate(items):
        path = folder / f"images/{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pair.image)


def json_lines(root: Path, items: Sequence[Pair]) -> str:
    _images(root, items)
    rows = [
        {"image": f"images/{n}.jpg", "captions": pair.captions, "split": pair.split}
        for n, pair in enumerate(items)
    ]
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root)


def json_list(root: Path, items: Sequence[Pair]) -> str:
    _images(root, items)
    rows = [
        {"image": f"images/{n}.jpg", "captions": pair.captions, "split": PUBLISHED[pair.split]}
        for n, pair in enumerate(items)
    ]
    (root / "pairs.json").write_text(json.dumps(rows))
    return str(root / "pairs.json")


def separated(separator: str, name: str) -> Callable[[Path, Sequence[Pair]], str]:
    import csv

    def write(root: Path, items: Sequence[Pair]) -> str:
        _images(root, items)
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(("filepath", "title", "split"))
            for number, pair in enumerate(items):
                for caption in pair.captions:
                    writer.writerow((f"images/{number}.jpg", caption, PUBLISHED[pair.split]))
        return str(root / name)

    return write


def siblings(root: Path, items: Sequence[Pair]) -> str:
    for number, pair in enumerate(items):
        folder = root / PUBLISHED[pair.split]
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02d}.jpg").write_bytes(pair.image)
        (folder / f"{number:02d}.txt").write_text("\n".join(pair.captions) + "\n\n")
    return str(root)


def coco(root: Path, items: Sequence[Pair]) -> str:
    """As https://cocodataset.org/#format-data describes caption annotations."""
    (root / "annotations").mkdir()
    for split, subset in (("train", "train2017"), ("validation", "val2017"), ("test", "test2017")):
        (root / subset).mkdir()
        content: dict[str, Any] = {
            "info": {"description": "COCO 2017 Dataset", "year": 2017},
            "licenses": [{"id": 1, "name": "Attribution License"}],
            "images": [],
            "annotations": [],
        }
        for number, pair in enumerate(items):
            if pair.split != split:
                continue
            name = f"{number:012d}.jpg"
            (root / subset / name).write_bytes(pair.image)
            content["images"].append(
                {"license": 1, "file_name": name, "height": 10, "width": 12, "id": number}
            )
            for place, caption in enumerate(pair.captions):
                content["annotations"].append(
                    {"image_id": number, "id": 100 * number + place, "caption": caption}
                )
        (root / f"annotations/captions_{subset}.json").write_text(json.dumps(content))
    return str(root)


def karpathy(root: Path, items: Sequence[Pair]) -> str:
    _images(root, items)
    images = []
    for number, pair in enumerate(items):
        split = "restval" if number == 3 else PUBLISHED[pair.split]
        sentences = [
            {"tokens": ["a"], "raw": caption, "imgid": number, "sentid": 10 * number + place}
            for place, caption in enumerate(pair.captions)
        ]
        images.append(
            {
                "sentids": [sentence["sentid"] for sentence in sentences],
                "imgid": number,
                "sentences": sentences,
                "split": split,
                "filename": f"{number}.jpg",
            }
        )
    content = {"images": images, "dataset": "flickr8k"}
    (root / "dataset_flickr8k.json").write_text(json.dumps(content))
    return str(root)


def web_shards(root: Path, items: Sequence[Pair]) -> str:
    """Three shards of four, by webdataset's own writer."""
    import webdataset

    pattern = str(root / "pairs-%03d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for number, pair in enumerate(items):
            side = {"captions": list(pair.captions), "split": pair.split}
            writer.write({"__key__": f"{number:05d}", "jpg": pair.image, "json": side})
    return str(root / "pairs-{000..002}.tar")


def img2dataset(root: Path, items: Sequence[Pair]) -> str:
    """One caption a sample, text and JSON both, metadata beside; shards in a folder a split."""
    import webdataset

    for split in PUBLISHED:
        (root / split).mkdir()
        with webdataset.TarWriter(str(root / split / "00000.tar")) as writer:
            for number, pair in enumerate(items):
                if pair.split == split:
                    side = {"caption": pair.captions[0], "url": "u", "status": "success"}
                    writer.write(
                        {
                            "__key__": f"{number:09d}",
                            "jpg": pair.image,
                            "txt": pair.captions[0],
                            "json": side,
                        }
                    )
        (root / split / "00000_stats.json").write_text('{"count": 4}')
        (root / split / "00000.parquet").write_bytes(b"PAR1 is not read")
    return str(root)


def _features() -> Any:
    from datasets import Features, Image, Sequence, Value

    return Features(
        {"image": Image(), "captions": Sequence(Value("string")), "number": Value("int64")}
    )


def dataset_dict(items: Sequence[Pair]) -> Any:
    from datasets import Dataset, DatasetDict

    return DatasetDict(
        {
            split: Dataset.from_list(
                [
                    {
                        "image": {"bytes": pair.image, "path": f"{number}.jpg"},
                        "captions": list(pair.captions),
                        "number": number,
                    }
                    for number, pair in enumerate(items)
                    if pair.split == split
                ],
                features=_features(),
            )
            for split in PUBLISHED
        }
    )


def parquet(root: Path, items: Sequence[Pair]) -> str:
    for split, data in dataset_dict(items).items():
        data.to_parquet(str(root / f"{split}-00000-of-00001.parquet"))
    return str(root)


def parquet_with_paths(root: Path, items: Sequence[Pair]) -> str:
    import pyarrow
    import pyarrow.parquet

    _images(root, items)
    rows = [
        {"file_name": f"images/{n}.jpg", "caption": caption, "split": pair.split}
        for n, pair in enumerate(items)
        for caption in pair.captions
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "pairs.parquet")
    return str(root / "pairs.parquet")


def saved_by_datasets(root: Path, items: Sequence[Pair]) -> str:
    dataset_dict(items).save_to_disk(str(root / "saved"))
    return str(root / "saved")


WRITERS: dict[str, Callable[[Path, Sequence[Pair]], str]] = {
    "table-jsonl": json_lines,
    "table-csv": separated(",", "captions.csv"),
    "table-semicolon": separated(";", "any.csv"),
    "table-bar": separated("|", "any.csv"),
    "table-tsv": separated("\t", "any.tsv"),
    "json_list": json_list,
    "siblings": siblings,
    "coco": coco,
    "karpathy": karpathy,
    "webdataset": web_shards,
    "parquet": parquet,
    "parquet-paths": parquet_with_paths,
    "hf_disk": saved_by_datasets,
}
