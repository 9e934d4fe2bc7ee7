"""Folders of pairs, some of whose captions stand beside the wrong images; it is known which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tijepa.data.scenes import Scenes

__all__ = ["photos_with_noise", "scenes_with_noise", "shuffle_captions"]

SCENE_SIDE = 64  # pixels


def shuffle_captions(rows: list[dict[str, Any]], share: float, seed: int) -> None:
    """Exchange a share of the captions of each split among its items, in place.

    Each of them goes to another item than its own; `shuffled` of a row then lists, as text, the
    numbers of the captions that are not its own.
    """
    generator = np.random.default_rng(seed)
    for split in sorted({row["split"] for row in rows}):
        own = [row for row in rows if row["split"] == split]
        places = [(row, k) for row in own for k in range(len(row["captions"]))]
        chosen = generator.permutation(len(places))[: round(share * len(places))]
        # sorted by item and turned by half their number none stays with its item
        some = [places[k] for k in np.sort(chosen)]
        texts = [row["captions"][k] for row, k in some]
        turned = texts[len(texts) // 2 :] + texts[: len(texts) // 2]
        for row in own:
            row["shuffled"] = ""
        for (row, k), text in zip(some, turned, strict=True):
            row["captions"][k] = text
            row["shuffled"] = f"{row['shuffled']} {k}".strip()


def photos_with_noise(
    source: Path, folder: Path, share: float, seed: int, photos: int | None = None
) -> None:
    """The photos of `source` (captions.jsonl and images/) by a link, their captions shuffled.

    With `photos` the first so many to train on and a fifth of that of each other split, by the
    first caption of each.
    """
    lines = (source / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if photos is not None:
        by_split: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_split.setdefault(row["split"], []).append(row | {"captions": row["captions"][:1]})
        most = {"train": photos}
        rows = [
            row for split, own in by_split.items() for row in own[: most.get(split, photos // 5)]
        ]
    (folder / "images").symlink_to(source / "images", target_is_directory=True)
    _write(rows, folder, share, seed)


def scenes_with_noise(folder: Path, counts: dict[str, int], share: float, seed: int) -> None:
    """Rendered scenes, as many of each split as `counts` says, with two captions each."""
    rows: list[dict[str, Any]] = []
    (folder / "images").mkdir()
    for split, count in counts.items():
        scenes = Scenes(split, count, image_size=SCENE_SIDE, distinct=split != "train")
        for index in range(count):
            name = f"images/{split}-{index}.png"
            Image.fromarray(scenes.image(index, SCENE_SIDE)).save(folder / name)
            captions = list(scenes.captions(index)[:2])
            rows.append({"image": name, "captions": captions, "split": split})
    _write(rows, folder, share, seed)


def _write(rows: list[dict[str, Any]], folder: Path, share: float, seed: int) -> None:
    shuffle_captions(rows, share, seed)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "captions.jsonl").write_text(text, encoding="utf-8")
