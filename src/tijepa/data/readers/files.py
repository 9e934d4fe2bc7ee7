"""Files of a source: read with care, named relative to their folder, told apart by a digest."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from tijepa.data.pairs import Rejected
from tijepa.data.records import canonical_split
from tijepa.errors import DataError

MAX_FILE_BYTES = 256_000_000  # larger images are not read into memory
# names of images; those of formats that are not read are rejected one by one by the check
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2",
        "ppm", "pgm", "heic", "heif", "jxl",
    )
)  # fmt: skip
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "readme", "license", "notice"))


def is_clutter(path: str) -> bool:
    """Whether it is no sample: hidden files (also macOS' ._NAME), `__MACOSX`, a read-me."""
    *folders, name = path.split("/")
    return name.startswith(".") or name.lower() in _CLUTTER or "__MACOSX" in folders


_TEXT_KEYS = ("raw", "caption", "text", "sentence", "value")
_ADJACENT = re.compile(r"""['"]\s+['"]""")
_MAX_DEPTH = 64
_MAX_BYTES = 4_000_000_000  # parsed, it takes several times as much memory


def read_file(path: Path | str) -> bytes:
    """The bytes of a regular file; `DataError` with a short reason if they cannot be had.

    A named pipe or device is refused instead of waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a regular file")
            check_size(status.st_size)
            return file.readall()
    except FileNotFoundError:
        raise DataError("file is missing") from None
    except IsADirectoryError:
        raise DataError("a folder, not a file") from None
    except OSError as error:
        raise DataError(f"file cannot be read: {error.strerror}") from None
    except ValueError:  # a null byte, or characters that no file name can hold
        raise DataError("file name is invalid") from None


def check_size(size: int) -> None:
    """Raise `DataError` if an image of `size` bytes is too large to be read."""
    if size > MAX_FILE_BYTES:
        raise DataError(f"{size:,} bytes exceed the bound of {MAX_FILE_BYTES:,}")


def glimpse(path: Path, start: int, length: int) -> bytes:
    """Up to `length` bytes from `start` (from the end if negative); empty if it is no such file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            if start < 0:
                file.seek(max(0, path.stat().st_size + start))
            else:
                file.seek(start)
            return file.read(length)
    except (OSError, ValueError):
        return b""


def inside(root: Path, name: object) -> str:
    """`name` as a path relative to `root`; `DataError` if it is no path or leads out of it."""
    if not isinstance(name, str):
        raise DataError(f"image is {str(name)[:80]!r}, not a path")
    if not name.strip():
        raise DataError("image path is blank")
    try:
        relative = os.path.relpath(name, root) if os.path.isabs(name) else os.path.normpath(name)
    except ValueError:
        raise DataError("image path is invalid") from None
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise DataError(f"image path leads out of the folder {root}")
    return relative


def printable(text: str) -> str:
    """`text` as valid Unicode: what UTF-8 cannot hold is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def digest_of_files(root: Path, names: Iterable[str]) -> str:
    """Hex digest of name, size and modification time of files below `root`, in the order given."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        try:
            status = os.stat(os.path.join(root, name))
            facts = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except (OSError, ValueError):
            facts = f"{name}\0missing\n"
        digest.update(facts.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def walk(root: Path) -> Iterator[tuple[str, list[str]] | Rejected]:
    """Each folder below `root` (relative, "" first) with its sorted file names, links followed.

    A link that leads back to a folder above, and a folder that cannot be listed, are `Rejected`.
    """
    return _walk(str(root), "", ())


def _walk(
    root: str, folder: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, list[str]] | Rejected]:
    path = os.path.join(root, folder)
    try:
        status = os.stat(path)
        here = (status.st_dev, status.st_ino)
        if here in above:
            yield Rejected(printable(folder), "symbolic link leads back to a folder above")
            return
        with os.scandir(path) as entries:
            kinds = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        yield Rejected(printable(folder or root), f"folder cannot be read: {error.strerror}")
        return
    yield folder, [name for name, is_folder in kinds if not is_folder]
    for name, is_folder in kinds:
        if is_folder and not name.startswith(".") and name != "__MACOSX":
            yield from _walk(root, os.path.join(folder, name), (*above, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def read_json(data: bytes) -> Any:
    """Parse UTF-8 JSON; `DataError` with a short reason if it is invalid.

    An object that holds a key twice is refused: which value is meant nobody can know. NaN and
    Infinity, which JSON does not have but Python writes for missing numbers, are null.
    """
    try:
        return _DECODER.decode(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError("invalid UTF-8") from None
    except RecursionError:
        raise DataError("invalid JSON: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"invalid JSON: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands twice in one object")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_constant=lambda name: None)


def captions_of(value: Any) -> tuple[Any, ...]:
    """A cell as captions: a list is several, null none. Whether they are text, the check judges.

    A text that is a list of texts, as JSON or Python write it, is that list; of records such as
    {"raw": "a ball"} the text counts.
    """
    if value is None:
        return ()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        value = _list_in(value)
    if isinstance(value, (list, tuple)):
        return tuple(_text_in(one) for one in value)
    return (_text_in(value),)


def _list_in(text: str) -> str | list[str]:
    """The list that `text` is written as, else the text."""
    if not (text.lstrip().startswith("[") and text.rstrip().endswith("]")):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        joined = parse is ast.literal_eval and _ADJACENT.search(text)  # numpy's
        if isinstance(found, list) and all(isinstance(one, str) for one in found) and not joined:
            return found
    return text


def _text_in(value: Any) -> Any:
    """The text of a record that holds one, everything else as it is."""
    if isinstance(value, dict):
        return next((value[k] for k in _TEXT_KEYS if isinstance(value.get(k), str)), value)
    return value


def split_of_value(value: Any) -> str:
    """A cell as the canonical name of a split; `DataError` if it is none."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"split is {value!r:.80}, while other rows name one")
    return printable(canonical_split(value))


def item_name(given: Any, otherwise: str) -> str:
    """The id that a source gives an item, else `otherwise`."""
    usable = isinstance(given, (str, int)) and not isinstance(given, bool) and str(given).strip()
    return printable(str(given) if usable else otherwise)


def extra_of(values: dict[str, Any]) -> dict[str, Any]:
    """Further columns as JSON can hold them; `DataError` where they are nested too deeply.

    Bytes become base64 text, dates ISO text, numbers that are not finite null.
    """
    return {printable(str(name)): _json_value(value, 0) for name, value in values.items()}


def _json_value(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise DataError(f"a value is nested deeper than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value if value.isascii() else printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {printable(str(key)): _json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.generic):
        return _json_value(value.item(), depth + 1)
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist(), depth + 1)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    return printable(str(value))


def load_json_file(file: Path) -> Any:
    """Parse `file`; `DataError` naming it if it cannot be read, is too large or is invalid."""
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{file} has {size:,} bytes, above the bound of {_MAX_BYTES:,}: cut it")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    try:
        return read_json(data)
    except DataError as error:
        raise DataError(f"{file}: {error}; mend it") from None
