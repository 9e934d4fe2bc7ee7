"""Karpathy's splits: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

The files come from https://cs.stanford.edu/people/karpathy/deepimagesent/. Each entry of `images`
has `filename`, `split`, `sentences` with `raw`, `imgid`, and for COCO `filepath` and `cocoid`. The
split "restval" counts as train, as is usual. The file is held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.annotations import AnnotationReader, lists_in
from tijepa.data.readers.columns import image_root
from tijepa.data.readers.files import extra_of, inside, printable, read_file, split_of_value
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError
from tijepa.registry import register

_FOLDERS = (
    "", "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr8k-images",
    "flickr30k-images", "flickr30k_images",
)  # fmt: skip
_USED = ("filename", "filepath", "split", "sentences")


@register("reader", "karpathy")
class KarpathyReader(AnnotationReader):
    """A split file of Karpathy and the images it names."""

    name: ClassVar[str] = "karpathy"
    priority: ClassVar[int] = 80
    layout: ClassVar[str] = "Karpathy's dataset_*.json, or the folder that holds it"
    keys: ClassVar[tuple[bytes, ...]] = (b'"images"', b'"filename"', b'"sentences"', b'"raw"')

    def __init__(self, source: str, options: ReaderOptions) -> None:
        super().__init__(source, options)
        if not self._files:
            raise DataError(
                f"{source} holds no split file of Karpathy: looked for a .json file whose "
                "'images' have 'filename', 'split' and 'sentences'"
            )
        if len(self._files) > 1:
            names = ", ".join(file.name for file in self._files[:3])
            count = len(self._files)
            raise DataError(f"{source} holds {count} split files ({names}): name one of them")

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._files[0]}: captions from sentences[].raw, splits of Karpathy"

    def _images(self, file: Path) -> Iterator[Path]:
        images = _listed(file)
        root = _root(file, images)
        return (root / path for path in _paths(images))

    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        images = _listed(file)
        root = _root(file, images)
        seen: set[str] = set()
        for number, image in enumerate(images):
            where = f"{file.name}: images[{number}]"
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


def _listed(file: Path) -> list[Any]:
    return lists_in(file, "is no split file of Karpathy: it has no list 'images'", "images")[0]


def _root(file: Path, images: list[Any]) -> Path:
    tops = (file.parent, file.parent.parent)
    return image_root((top / folder for top in tops for folder in _FOLDERS), _paths(images[:20]))


def _paths(images: list[Any]) -> list[str]:
    """Of the images that have one."""
    paths = []
    for image in images:
        with suppress(DataError):
            paths.append(_path(image))
    return paths


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
