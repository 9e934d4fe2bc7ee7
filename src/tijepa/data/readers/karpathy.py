"""Karpathy's splits: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

The files come from https://cs.stanford.edu/people/karpathy/deepimagesent/. Each entry of `images`
has `filename`, `split`, `sentences` with `raw`, `imgid`, and for COCO `filepath` and `cocoid`. The
split "restval" counts as train, as is usual. The file is held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import image_root
from tijepa.data.readers.files import (
    digest_of_files,
    extra_of,
    glimpse,
    inside,
    load_json_file,
    printable,
    read_file,
    split_of_value,
)
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError
from tijepa.registry import register

_GLIMPSE = 65536
_FOLDERS = (
    "",
    "images",
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr8k-images",
    "flickr30k-images",
    "flickr30k_images",
)
_USED = ("filename", "filepath", "split", "sentences")


@register("reader", "karpathy")
class KarpathyReader(Reader):
    """A split file of Karpathy and the images it names."""

    name: ClassVar[str] = "karpathy"
    priority: ClassVar[int] = 80
    layout: ClassVar[str] = "Karpathy's dataset_*.json, or the folder that holds it"
    follows: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        files = _split_files(Path(source))
        if not files:
            raise DataError(
                f"{source} holds no split file of Karpathy: looked for a .json file whose "
                "'images' have 'filename', 'split' and 'sentences'"
            )
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:3])
            raise DataError(f"{source} holds {len(files)} split files ({names}): name one of them")
        self._file = files[0]

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether a JSON file there begins with the keys of such a file."""
        return bool(_split_files(Path(source)))

    def __iter__(self) -> Iterator[Record | Rejected]:
        images = self._images()
        root = self._root(images)
        seen: set[str] = set()
        for number, image in enumerate(images):
            where = f"{self._file.name}: images[{number}]"
            name = where
            try:
                name = printable(_path(image))
                if name in seen:
                    raise DataError("filename stands twice")
                record = _record(image, name, where, root)
            except DataError as error:
                yield Rejected(name, str(error))
                continue
            seen.add(name)
            yield record

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._file}: captions from sentences[].raw, splits of Karpathy"

    def fingerprint(self) -> str:
        """Of the split file and the images that it names."""
        return digest_of_files(self._file.parent, self._names())

    def _names(self) -> Iterator[str]:
        yield self._file.name
        images = self._images()
        root = self._root(images)
        for image in images:
            try:
                yield os.path.relpath(root / _path(image), self._file.parent)
            except (DataError, ValueError):
                continue

    def _images(self) -> list[Any]:
        content = load_json_file(self._file)
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list):
            raise DataError(f"{self._file} is no split file of Karpathy: it has no list 'images'")
        return images

    def _root(self, images: list[Any]) -> Path:
        names = []
        for image in images[:20]:
            try:
                names.append(_path(image))
            except DataError:
                continue
        tops = (self._file.parent, self._file.parent.parent)
        return image_root((top / folder for top in tops for folder in _FOLDERS), names)


def _split_files(source: Path) -> list[Path]:
    try:
        files = [source] if source.is_file() else sorted(source.glob("*.json"))
    except (OSError, ValueError):
        return []
    return [file for file in files if _shows_splits(file)]


def _shows_splits(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    start = glimpse(file, 0, _GLIMPSE)
    return all(key in start for key in (b'"images"', b'"filename"', b'"sentences"', b'"raw"'))


def _path(image: Any) -> str:
    """filepath/filename; `DataError` where there is none."""
    if not isinstance(image, dict):
        raise DataError("no object")
    name, folder = image.get("filename"), image.get("filepath", "")
    if not isinstance(name, str) or not isinstance(folder, str):
        raise DataError("no filename")
    return os.path.join(folder, name)


def _record(image: dict[str, Any], name: str, where: str, root: Path) -> Record:
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise DataError("no list of sentences")
    captions = tuple(
        sentence["raw"] if isinstance(sentence, dict) and "raw" in sentence else sentence
        for sentence in sentences
    )
    return Record(
        id=name,
        reference=where,
        image=read_file(root / inside(root, _path(image))),
        captions=captions,
        split=split_of_value(image.get("split")),
        extra=extra_of({n: v for n, v in image.items() if n not in _USED}),
    )
