"""Captions in JSON files that name image files: COCO, and the splits of Karpathy.

A file is held in memory while it is read. COCO (https://cocodataset.org/#format-data, Caption
Annotations) has a list `images` with `id` and `file_name`, a list `annotations` with `image_id` and
`caption`, and a file for each split, `annotations/captions_train2017.json` with its images in
`train2017/`. Karpathy's `dataset_flickr8k.json`, `dataset_flickr30k.json` and `dataset_coco.json`
(https://cs.stanford.edu/people/karpathy/deepimagesent/) have a list `images` with `filename`,
`split`, `sentences` with `raw`, and for COCO `filepath`; their split "restval" counts as train, as
is usual.
"""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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
from tijepa.data.records import Reader, ReaderOptions, Record, split_in_name
from tijepa.errors import DataError
from tijepa.registry import register

_GLIMPSE = 65536  # bytes looked at, at both ends of a file


class AnnotationReader(Reader):
    """Annotation files, each held in memory while it is read, and the images that they name.

    A file is one of the layout where its ends show all `keys`. Files are looked for in `folders`;
    where names of some begin with `prefix`, only those are taken.
    """

    follows: ClassVar[frozenset[str]] = frozenset()
    keys: ClassVar[tuple[bytes, ...]]
    folders: ClassVar[tuple[str, ...]] = ("",)
    prefix: ClassVar[str] = ""

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        self._files = self._found(Path(source))

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether a JSON file there shows the keys of the layout at its ends."""
        return bool(cls._found(Path(source)))

    def __iter__(self) -> Iterator[Record | Rejected]:
        for file in self._files:
            yield from self._records(file)

    def fingerprint(self) -> str:
        """Of the annotation files and the images that they name."""
        return digest_of_files(self._files[0].parent, self._names())

    @abstractmethod
    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        """What one file tells, in its order."""

    @abstractmethod
    def _images(self, file: Path) -> Iterator[Path]:
        """The images that one file names."""

    def _names(self) -> Iterator[str]:
        for file in self._files:
            yield file.name
            for image in self._images(file):
                try:
                    yield os.path.relpath(image, file.parent)
                except ValueError:
                    continue

    @classmethod
    def _found(cls, source: Path) -> list[Path]:
        try:
            folders = [source / name for name in cls.folders]
            files = sorted(itertools.chain(*(folder.glob("*.json") for folder in folders)))
            files = [source] if source.is_file() else files
        except (OSError, ValueError):
            return []
        named = [file for file in files if file.name.startswith(cls.prefix)]
        return [file for file in named or files if cls._shows_keys(file)]

    @classmethod
    def _shows_keys(cls, file: Path) -> bool:
        if file.suffix.lower() != ".json":
            return False
        ends = glimpse(file, 0, _GLIMPSE) + glimpse(file, -_GLIMPSE, _GLIMPSE)
        return all(key in ends for key in cls.keys)


def lists_in(file: Path, problem: str, *names: str) -> list[list[Any]]:
    """The lists called `names` of the JSON object in `file`.

    Raises `DataError` where it cannot be read, and one that says `problem` where it lacks a list.
    """
    content = load_json_file(file)
    found = [content.get(name) if isinstance(content, dict) else None for name in names]
    lists = [part for part in found if isinstance(part, list)]
    if len(lists) < len(names):
        raise DataError(f"{file} {problem}")
    return lists


@dataclass(frozen=True)
class _Coco:
    """One parsed file: its images, captions by image id as text, and what is wrong in it."""

    images: list[dict[str, Any]]
    captions: dict[str, list[Any]]
    rejected: list[Rejected]
    folder: Path


@register("reader", "coco")
class CocoReader(AnnotationReader):
    """Caption annotations of COCO."""

    name: ClassVar[str] = "coco"
    priority: ClassVar[int] = 90
    layout: ClassVar[str] = "COCO captions_*.json, its folder annotations/, or the folder above"
    keys: ClassVar[tuple[bytes, ...]] = (b'"file_name"', b'"image_id"', b'"caption"')
    folders: ClassVar[tuple[str, ...]] = ("", "annotations")
    prefix: ClassVar[str] = "captions_"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        super().__init__(source, options)
        if not self._files:
            raise DataError(
                f"{source} holds no COCO captions: looked for a .json file with lists 'images' "
                "and 'annotations', here and in annotations/"
            )

    def describe(self) -> str:
        """See `Reader.describe`."""
        parts = [f"{f.name} as {split_in_name(f.stem) or 'no split'}" for f in self._files]
        return f"{self._files[0].parent}: COCO captions; {', '.join(parts)}"

    def _images(self, file: Path) -> Iterator[Path]:
        parsed = _parse_coco(file)
        return (parsed.folder / image["file_name"] for image in parsed.images)

    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        parsed = _parse_coco(file)
        yield from parsed.rejected
        split = split_in_name(file.stem)  # captions_val2017 is validation
        prefix = file.stem.removeprefix("captions_")
        for image in parsed.images:
            name = printable(f"{prefix}/{image['file_name']}")
            try:
                data = read_file(parsed.folder / inside(parsed.folder, image["file_name"]))
                extra = extra_of({n: v for n, v in image.items() if n not in ("id", "file_name")})
            except DataError as error:
                yield Rejected(name, str(error))
                continue
            yield Record(
                id=name,
                reference=f"{file.name}: image {image['id']}",
                image=data,
                captions=tuple(parsed.captions.get(str(image["id"]), ())),
                split=split,
                extra={"image_id": image["id"], **extra},
            )


def _parse_coco(file: Path) -> _Coco:
    needed = "is no COCO file: it needs lists 'images' and 'annotations'"
    images, annotations = lists_in(file, needed, "images", "annotations")
    rejected: list[Rejected] = []
    sound: dict[str, dict[str, Any]] = {}
    for number, image in enumerate(images):
        where = f"{file.name}: images[{number}]"
        problem = _image_problem(image)
        if problem is None and str(image["id"]) in sound:
            problem = f"id {image['id']} stands twice"
        if problem is None:
            sound[str(image["id"])] = image
        else:
            rejected.append(Rejected(where, problem))
    captions: dict[str, list[Any]] = {}
    for number, annotation in enumerate(annotations):
        where = f"{file.name}: annotations[{number}]"
        if not isinstance(annotation, dict) or not _is_id(annotation.get("image_id")):
            rejected.append(Rejected(where, "no object with an image_id"))
        elif str(annotation["image_id"]) not in sound:  # as of a subset: no sample of it
            missing = printable(str(annotation["image_id"]))
            reason = f"image {missing} is not in the list of images"
            rejected.append(Rejected(where, reason, samples=0))
        elif "caption" in annotation:
            captions.setdefault(str(annotation["image_id"]), []).append(annotation["caption"])
        else:
            rejected.append(Rejected(where, "no caption"))
    listed = list(sound.values())
    return _Coco(listed, captions, rejected, _image_folder(file, listed))


def _image_problem(image: Any) -> str | None:
    if not isinstance(image, dict) or not _is_id(image.get("id")):
        return "no object with an id"
    return None if isinstance(image.get("file_name"), str) else "no file_name"


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _image_folder(file: Path, images: list[dict[str, Any]]) -> Path:
    """train2017/ or images/train2017/ beside annotations/, else where the images are."""
    subset = file.stem.removeprefix("captions_")
    tops = [file.parent.parent, file.parent] if file.parent.name == "annotations" else [file.parent]
    split = subset.rstrip("0123456789")
    below = (subset, f"images/{subset}", split, f"images/{split}", "images", "")
    candidates = [top / name for top in tops for name in below]
    return image_root(candidates, [image["file_name"] for image in images[:20]])


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
