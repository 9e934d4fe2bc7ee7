"""The peers: `webdataset` as open_clip uses it, and `datasets`, both decoding with Pillow."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from loading.photos import Photo
from loading.pillow import preprocess
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import MissingExtraError

__all__ = ["load_datasets", "load_webdataset", "write_datasets", "write_tars"]

SHARD = 128  # pairs in a tar
MAX_TOKENS = 48


def write_tars(photos: Sequence[Photo], folder: Path) -> list[str]:
    """Tar shards with NAME.jpg and NAME.txt; their paths."""
    wds = _require("webdataset")
    folder.mkdir()
    paths = []
    for start in range(0, len(photos), SHARD):
        paths.append(str(folder / f"{start // SHARD:05d}.tar"))
        with wds.TarWriter(paths[-1]) as tar:
            for photo in photos[start : start + SHARD]:
                pair = {"__key__": photo.name, "jpg": photo.jpeg, "txt": photo.captions[0]}
                tar.write(pair)
    return paths


def load_webdataset(paths: list[str], tokenizer: Tokenizer, *, batch_size: int) -> int:
    """One pass; the number of pairs."""
    wds = _require("webdataset")
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(paths),
        wds.split_by_node,
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.shuffle(256, initial=128),
        wds.select(lambda sample: "txt" in sample and "jpg" in sample),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=preprocess),
        wds.to_tuple("image", "text"),
        wds.batched(batch_size, collation_fn=lambda rows: _collate(rows, tokenizer), partial=False),
    )
    return sum(len(images) for images, _ in pipeline)


def write_datasets(photos: Sequence[Photo], folder: Path) -> None:
    """A folder of `save_to_disk` with an image column."""
    datasets = _require("datasets")
    datasets.Dataset.from_dict(
        {
            "image": [{"bytes": photo.jpeg, "path": None} for photo in photos],
            "text": [photo.captions[0] for photo in photos],
        },
        features=datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}),
    ).save_to_disk(str(folder))


def load_datasets(folder: Path, tokenizer: Tokenizer, *, batch_size: int) -> int:
    """One shuffled pass through torch's own DataLoader, in this process; the number of pairs."""
    data = _require("datasets").load_from_disk(str(folder))
    data.set_transform(_transform)
    loader: DataLoader[Any] = DataLoader(
        data,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=lambda rows: _collate([(row["image"], row["text"]) for row in rows], tokenizer),
    )
    return sum(len(images) for images, _ in loader)


def _transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    images = [preprocess(image.convert("RGB")) for image in batch["image"]]
    return {"image": images, "text": batch["text"]}


def _collate(rows: Sequence[tuple[Any, str]], tokenizer: Tokenizer) -> tuple[torch.Tensor, Any]:
    images = torch.stack([image for image, _ in rows])
    return images, tokenizer.encode([text for _, text in rows], MAX_TOKENS)


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise MissingExtraError(name, "bench") from None
