"""COCO captions as published: `annotations/captions_train2017.json`, images in `train2017/`.

The format is described at https://cocodataset.org/#format-data (Caption Annotations): a list
`images` with `id` and `file_name`, and a list `annotations` with `image_id` and `caption`. Each
file is a split, named by its file name. One file at a time is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.annotations import AnnotationReader, lists_in
from tijepa.data.readers.columns import image_root
from tijepa.data.readers.files import extra_of, inside, printable, read_file
from tijepa.data.records import ReaderOptions, Record, split_in_name
from tijepa.errors import DataError
from tijepa.registry import register


@dataclass(frozen=True)
class _Annotations:
    """One parsed file: its images, the captions by image id, and what is wrong in it."""

    images: list[dict[str, Any]]
    captions: dict[Any, list[Any]]
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
        parsed = _parse(file)
        return (parsed.folder / image["file_name"] for image in parsed.images)

    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        parsed = _parse(file)
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
                captions=tuple(parsed.captions.get(image["id"], ())),
                split=split,
                extra={"image_id": image["id"], **extra},
            )


def _parse(file: Path) -> _Annotations:
    needed = "is no COCO file: it needs lists 'images' and 'annotations'"
    images, annotations = lists_in(file, needed, "images", "annotations")
    rejected: list[Rejected] = []
    sound: dict[Any, dict[str, Any]] = {}
    for number, image in enumerate(images):
        where = f"{file.name}: images[{number}]"
        problem = _image_problem(image)
        if problem is None and image["id"] in sound:
            problem = f"id {image['id']} stands twice"
        if problem is None:
            sound[image["id"]] = image
        else:
            rejected.append(Rejected(where, problem))
    captions: dict[Any, list[Any]] = {}
    for number, annotation in enumerate(annotations):
        where = f"{file.name}: annotations[{number}]"
        if not isinstance(annotation, dict) or not _is_id(annotation.get("image_id")):
            rejected.append(Rejected(where, "no object with an image_id"))
        elif annotation["image_id"] not in sound:
            missing = printable(str(annotation["image_id"]))
            rejected.append(Rejected(where, f"image {missing} is not in the list of images"))
        elif "caption" in annotation:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        else:
            rejected.append(Rejected(where, "no caption"))
    listed = list(sound.values())
    return _Annotations(listed, captions, rejected, _image_folder(file, listed))


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
