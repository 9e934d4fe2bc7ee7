"""The text and the JSON that stand beside a picture under the same name: captions and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tijepa.data.readers.columns import guess_columns, take
from tijepa.data.readers.values import captions_of, extra_of, read_json, split_of_value
from tijepa.data.records import ReaderOptions
from tijepa.errors import DataError

__all__ = ["Sides", "read_sides"]

_BESIDE_TEXT = ("captions", "caption")  # a "title" beside a caption is something else


@dataclass(frozen=True)
class Sides:
    """What text and JSON say of one picture."""

    captions: tuple[Any, ...]
    split: str | None
    extra: dict[str, Any]


def read_sides(
    text: bytes | None, json: bytes | None, options: ReaderOptions, *, line_by_line: bool
) -> Sides:
    """Captions of `text` (each line, or all of it as one) and then those of `json` it lacks.

    If `options` name a key of `json`, captions come from there alone. A blank text is none. Invalid
    UTF-8 becomes lone surrogates, for the check to find. Raises `DataError` if `json` is invalid or
    lacks that key.
    """
    named = options.caption_column
    texts = _texts(text, line_by_line) if named is None else ()
    values = {} if json is None else read_json(json)
    if not isinstance(values, dict):
        values = {"captions": values} if _is_text(values) else {"json": values}
    columns = guess_columns(tuple(values), options)
    if named is not None and named not in values:
        raise DataError(f"there is no '{named}' for the caption")
    names = columns.caption
    if texts:
        names = tuple(name for name in names if name.lower() in _BESIDE_TEXT)
    caption_column, value = take(values, names)
    split_column, split = take(values, columns.split)
    captions = captions_of(value)
    stripped = {caption.strip() for caption in captions if isinstance(caption, str)}
    further = tuple(caption for caption in texts if caption.strip() not in stripped)
    used = {caption_column, split_column}
    return Sides(
        captions=further + captions,
        split=None if split is None else split_of_value(split),
        extra=extra_of({n: v for n, v in values.items() if n not in used}),
    )


def _texts(text: bytes | None, line_by_line: bool) -> tuple[str, ...]:
    if text is None:
        return ()
    decoded = text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = decoded.replace("\r\n", "\n").split("\n") if line_by_line else [decoded.strip("\r\n")]
    return tuple(line for line in lines if line.strip())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )
