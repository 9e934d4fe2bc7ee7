"""A folder of pictures and a file of captions as splits; broken items are found at opening.

The captions stand in `captions.jsonl`, `pairs.jsonl`, `captions.csv`, `captions.tsv` or the only
file of such a kind. One row describes one picture, with paths relative to the folder:

    {"image": "images/1.jpg", "captions": ["a red ball", "a ball"], "split": "train"}
    {"image": null, "text": "a text without a picture", "id": "t1"}
    {"image": "images/2.jpg", "captions": [], "split": "val"}

Rows of the same picture become one item with all their captions. Splits called val, valid or dev
are the validation split; other names stay as they are. Without any split, items are split by a
hash of their id: 90 % train, 5 % validation, 5 % test; fewer than 20 items are all train.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tijepa.data.images import check_image_file, decode_image
from tijepa.data.pairs import Item, PairSource, PairSplits, Picture, SetAside
from tijepa.data.rows import Row, Table, read_table
from tijepa.errors import DataError

__all__ = ["FolderSource", "folder_splits"]

_FILES = ("captions.jsonl", "pairs.jsonl", "captions.csv", "captions.tsv", "pairs.csv", "pairs.tsv")
_IMAGE = ("image", "image_path", "filepath", "file_path", "file_name", "filename", "file", "path")
_CAPTION = ("captions", "caption", "text", "title", "description", "sentence", "alt_text")
_SPLIT = ("split", "partition")
_VALIDATION = ("val", "valid", "validation", "dev")
_FEWEST_TO_SPLIT = 20


@dataclass
class _Item:
    """One picture or text under construction."""

    name: str
    image: str | None
    split: str | None
    captions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; several where rows differ."""

    image: tuple[str, ...]
    caption: tuple[str, ...]
    split: tuple[str, ...]


class FolderSource(PairSource):
    """Items of one split of a folder; pictures are read from their files each time."""

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        images: Sequence[str | None],
        captions: Sequence[tuple[str, ...]],
    ) -> None:
        self._root = root
        self._names = names
        self._images = images
        self._captions = captions

    def __len__(self) -> int:
        return len(self._names)

    def item_id(self, index: int) -> str:
        """The row's id, else its image path, else its line."""
        return self._names[index]

    def read(self, indexes: Sequence[int]) -> list[Item]:
        """Items; a file is read when its pixels are asked for."""
        return [
            Item(self._names[i], self._captions[i], None if image is None else self._file(image))
            for i, image in zip(indexes, (self._images[i] for i in indexes), strict=True)
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        """All captions of the items at `indexes`."""
        return [self._captions[i] for i in indexes]

    def _file(self, image: str) -> Picture:
        return _File(self._root / image)


@dataclass(frozen=True)
class _File(Picture):
    """A picture file that is read when its pixels are asked for."""

    path: Path

    def pixels(self, min_side: int) -> np.ndarray:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"file cannot be read: {error.strerror}") from None
        return decode_image(data, min_side)


def folder_splits(
    path: Path | str,
    *,
    max_bad: float = 0.01,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> PairSplits:
    """Open the folder at `path`: read its captions file and check every row and picture header.

    Broken items (missing or damaged files, blank captions, invalid lines, duplicates) are listed
    in `set_aside` and not used. Raises `DataError` if the folder or its captions file cannot be
    used, if no item is usable, or if the share of broken items exceeds `max_bad`. Names of columns
    are guessed from the usual ones unless given.
    """
    root = Path(path).expanduser()
    file = _captions_file(root)
    table = read_table(file)
    columns = _recognise(table, file, image_column, caption_column)
    set_aside = list(table.set_aside)
    gathered = _gather(root, table.rows, columns, set_aside)
    usable = list(_with_sound_pictures(root, gathered, set_aside))
    _judge(file, len(usable), set_aside, max_bad)
    if not columns.split:
        _split_by_hash(usable)
    return PairSplits(
        splits=_sources(root, usable), set_aside=tuple(set_aside), description=str(file)
    )


def _captions_file(root: Path) -> Path:
    if not root.exists():
        raise DataError(f"folder {root} does not exist: check data.source")
    if not root.is_dir():
        raise DataError(f"{root} is a file: give data.source the folder that holds it")
    names = sorted(entry.name for entry in root.iterdir())
    if not names:
        raise DataError(f"folder {root} is empty: put pictures and a captions.jsonl there")
    for name in _FILES:
        if name in names:
            return root / name
    for endings in ((".jsonl",), (".csv", ".tsv")):
        candidates = [name for name in names if name.lower().endswith(endings)]
        if len(candidates) == 1:
            return root / candidates[0]
        if candidates:
            raise DataError(
                f"folder {root} holds {len(candidates)} captions files "
                f"({', '.join(candidates[:3])}, ...): rename the right one to captions{endings[0]}"
            )
    raise DataError(
        f"folder {root} holds no captions file: looked for {', '.join(_FILES)} and any single "
        "*.jsonl, *.csv or *.tsv"
    )


def _recognise(
    table: Table, file: Path, image_column: str | None, caption_column: str | None
) -> _Columns:
    found = ", ".join(table.columns) or "none"
    lower = {name.lower().strip(): name for name in reversed(table.columns)}

    def pick(wanted: str | None, usual: tuple[str, ...], what: str) -> tuple[str, ...]:
        if wanted is not None:
            if wanted not in table.columns:
                raise DataError(f"{file} has no column '{wanted}' for the {what}; columns: {found}")
            return (wanted,)
        known = tuple(lower[name] for name in usual if name in lower)
        if not known:
            raise DataError(
                f"{file} has no recognised {what} column; columns: {found}; rename one to "
                f"'{usual[0]}' (recognised: {', '.join(usual)}), empty where there is none"
            )
        return known

    if not table.columns and table.set_aside:
        first = table.set_aside[0]
        raise DataError(f"{file} has no readable row; {first.item}: {first.reason}; mend the file")
    if not table.columns:
        raise DataError(f"{file} is empty: write one row for each picture")
    return _Columns(
        image=pick(image_column, _IMAGE, "image"),
        caption=pick(caption_column, _CAPTION, "caption"),
        split=tuple(lower[name] for name in _SPLIT if name in lower),
    )


def _gather(
    root: Path, rows: Iterable[Row], columns: _Columns, set_aside: list[SetAside]
) -> list[_Item]:
    """Rows to items, in order of first appearance; broken rows to `set_aside`."""
    items: list[_Item] = []
    by_image: dict[str, _Item] = {}
    texts: set[tuple[str, ...]] = set()
    for row in rows:
        image = _first_value(row.values, columns.image)
        name = _name(row, image)
        try:
            image = _inside(root, image)
            captions = _captions(_first_value(row.values, columns.caption))
            split = _split(_first_value(row.values, columns.split)) if columns.split else None
            if image is None and not captions:
                raise DataError("neither an image nor a caption")
            if image is None:
                if captions in texts:
                    raise DataError("duplicate of an earlier text")
                texts.add(captions)
                items.append(_Item(name, None, split, list(captions)))
                continue
            item = by_image.get(image)
            if item is None:
                item = by_image[image] = _Item(name, image, split)
                items.append(item)
            elif item.split != split:
                raise DataError(f"image stands in split '{item.split}' already")
            elif all(caption in item.captions for caption in captions):
                raise DataError("duplicate of an earlier row with this image and caption")
            item.captions.extend(captions)
        except DataError as error:
            set_aside.append(SetAside(name, f"line {row.line}: {error}"))
    return items


def _with_sound_pictures(
    root: Path, items: Iterable[_Item], set_aside: list[SetAside]
) -> Iterable[_Item]:
    for item in items:
        problem = check_image_file(root / item.image) if item.image is not None else None
        if problem is None:
            yield item
        else:
            set_aside.append(SetAside(item.name, problem))


def _judge(file: Path, usable: int, set_aside: Sequence[SetAside], max_bad: float) -> None:
    bad = len(set_aside)
    first = f"{set_aside[0].item}: {set_aside[0].reason}" if set_aside else "it has no rows"
    if not usable:
        raise DataError(f"{file} has no usable item of {bad:,}; first {first}; mend the file")
    share = bad / (bad + usable)
    if share > max_bad:
        raise DataError(
            f"{file}: {bad:,} of {bad + usable:,} items ({share:.2%}) are broken, above the bound "
            f"of {max_bad:.2%}; first {first}; mend them, or allow more with "
            f"data.max_bad={math.ceil(share * 1000) / 1000:g}"
        )


def _split_by_hash(items: Sequence[_Item]) -> None:
    """90 % train, 5 % validation, 5 % test by a hash of the id, none empty from 20 items on."""
    for item in items:
        item.split = "train"
    if len(items) < _FEWEST_TO_SPLIT:
        return
    ranked = sorted(items, key=lambda item: _fraction(item.name))
    for item in ranked:
        fraction = _fraction(item.name)
        item.split = "train" if fraction < 0.9 else "validation" if fraction < 0.95 else "test"
    if all(item.split != "test" for item in ranked):
        ranked[-1].split = "test"
    if all(item.split != "validation" for item in ranked):
        train = [item for item in ranked if item.split == "train"]
        train[-1].split = "validation"


def _fraction(name: str) -> float:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def _sources(root: Path, items: Iterable[_Item]) -> dict[str, PairSource]:
    """One source for each split: train, validation, test first, then by appearance."""
    grouped: dict[str, list[_Item]] = {"train": [], "validation": [], "test": []}
    for item in items:
        grouped.setdefault(item.split or "train", []).append(item)
    return {
        split: FolderSource(
            root,
            [item.name for item in members],
            [item.image for item in members],
            [tuple(item.captions) for item in members],
        )
        for split, members in grouped.items()
        if members
    }


def _first_value(values: Mapping[str, Any], columns: Iterable[str]) -> Any:
    """The first value that is there, of columns that mean the same."""
    return next((values[name] for name in columns if values.get(name) is not None), None)


def _name(row: Row, image: Any) -> str:
    given = row.values.get("id")
    if isinstance(given, (str, int)) and not isinstance(given, bool) and str(given).strip():
        return str(given)
    return image if isinstance(image, str) and image else f"line {row.line}"


def _inside(root: Path, image: Any) -> str | None:
    if image is None:
        return None
    if not isinstance(image, str):
        raise DataError(f"image is {image!r}, not a path")
    if not image.strip():
        raise DataError("image path is blank")
    relative = os.path.normpath(image)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise DataError(f"image path leads out of the folder {root}")
    return relative


def _captions(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = tuple(value) if isinstance(value, list) else (value,)
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"caption is {text!r}, not a string")
        if not text.strip():
            raise DataError("caption is blank")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError("caption is not valid Unicode")
    return texts


def _split(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"split is {value!r}, while other rows name one")
    name = value.strip().lower()
    return "validation" if name in _VALIDATION else name
