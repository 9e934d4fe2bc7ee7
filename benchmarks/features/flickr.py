"""Features of all photos and captions in a folder: `images.npy`, `texts.npy`, `photos.json`.

Row k of `texts` is caption k mod 5 of photo k div 5. `photos.json` gives the split of every photo;
it is written last, so a folder that has it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from features import minilm, vit
from grid.held import save_array
from tijepa.data.images import centre_square, decode_image, normalise
from tijepa.errors import DataError

__all__ = ["CAPTIONS", "keep_features", "make_up_features"]

CAPTIONS = 5
_AT_ONCE = 64


def keep_features(folder: Path, photos: int | None = None) -> None:
    """Compute the features of Flickr8k (of its first `photos`), unless `folder` has them.

    Reads `data/flickr8k` and `weights/vit_tiny_patch16_224` under TIJEPA_REAL_DATA; takes some
    minutes. Raises `DataError` where they are not there.
    """
    if (folder / "photos.json").exists():
        return
    root = os.environ.get("TIJEPA_REAL_DATA")
    if not root:
        raise DataError(
            "TIJEPA_REAL_DATA is not set: give the folder that holds data/flickr8k and"
            " weights/vit_tiny_patch16_224"
        )
    data = Path(root) / "data" / "flickr8k"
    lines = (data / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][:photos]
    see = vit.load_vit(Path(root) / "weights" / "vit_tiny_patch16_224")
    images = torch.empty(len(rows), 2 * vit.WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for part in track(list(_parts(range(len(rows)))), "photos", transient=True):
            inputs = torch.stack([_photo(data / rows[k]["image"]) for k in part])
            images[part] = see(inputs)
    captions = [text for row in rows for text in row["captions"]]
    assert len(captions) == CAPTIONS * len(rows), "every photo has five captions"
    texts = torch.empty(len(captions), 2 * minilm.WIDTH)
    encode = minilm.load_minilm()
    # of similar length together, so that little is spent on padding
    order = sorted(range(len(captions)), key=lambda k: len(captions[k]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for part in track(list(_parts(order)), "captions", transient=True):
            texts[part] = encode([captions[k] for k in part])
    splits = {"val": "validation"}
    _write(folder, images, texts, [splits.get(row["split"], row["split"]) for row in rows])


def make_up_features(folder: Path, photos: int) -> None:
    """Random features of the same form, in which a caption's are a noisy map of its photo's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(photos, 2 * vit.WIDTH, generator=generator)
    to_text = torch.randn(2 * vit.WIDTH, 2 * minilm.WIDTH, generator=generator)
    texts = (images @ to_text / 20).repeat_interleave(CAPTIONS, dim=0)
    texts = texts + torch.randn(texts.shape, generator=generator)
    held_out = photos // 4
    splits = ["validation"] * held_out + ["test"] * held_out
    _write(folder, images, texts, ["train"] * (photos - len(splits)) + splits)


def _write(folder: Path, images: torch.Tensor, texts: torch.Tensor, splits: list[Any]) -> None:
    save_array(folder / "images.npy", images.numpy())
    save_array(folder / "texts.npy", texts.numpy())
    unfinished = folder / "photos.json.unfinished"
    unfinished.write_text(json.dumps(splits))
    unfinished.rename(folder / "photos.json")


def _photo(path: Path) -> torch.Tensor:
    pixels = decode_image(path.read_bytes(), vit.SIDE)
    return normalise(centre_square(pixels, vit.SIDE)[None])[0]


def _parts(rows: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield list(rows[start : start + _AT_ONCE])
