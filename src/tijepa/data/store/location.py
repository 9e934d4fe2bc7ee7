"""Where stores lie: paths and URIs, and opening the dataset there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tijepa.errors import DataError

if TYPE_CHECKING:
    import lance

__all__ = ["is_remote", "is_store", "local_path", "open_dataset", "storage_problem", "store_exists"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_store(source: str) -> bool:
    """Whether `source` names a store: a path or URI that ends with .lance."""
    return source.rstrip("/").endswith(".lance")


def is_remote(uri: str) -> bool:
    """Whether `uri` lies on object storage, as opposed to a path of this machine."""
    return _SCHEME.match(uri) is not None and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path that a local `uri` means."""
    return Path(uri.removeprefix("file://")).expanduser()


def store_exists(uri: str) -> bool:
    """Whether something stands at `uri`: any file or folder, on object storage a dataset."""
    if not is_remote(uri):
        return os.path.lexists(local_path(uri))
    import lance

    try:
        lance.dataset(uri)
    except ValueError as error:
        if _is_missing(error):
            return False
        raise _problem(uri, error) from None
    except OSError as error:
        raise _problem(uri, error) from None
    return True


def open_dataset(uri: str, version: int | None = None) -> lance.LanceDataset:
    """The dataset at `uri`, its latest version unless one is given.

    Object storage is reached with what the environment says (AWS_ACCESS_KEY_ID, AWS_ENDPOINT and
    so on). Raises `DataError` where there is none, or no longer that version.
    """
    import lance

    place = uri if is_remote(uri) else str(local_path(uri))
    try:
        return lance.dataset(place, version=version)
    except (ValueError, OSError) as error:
        if not _is_missing(error):
            raise _problem(uri, error) from None
    if version is not None:
        latest = open_dataset(uri).version
        raise DataError(
            f"{uri} no longer has version {version}, which was recorded (its latest is {latest}): "
            "restore it, or start anew with what is there"
        )
    raise DataError(
        f"there is no store at {uri}: check the path, or make one with: tijepa prepare SOURCE "
        f"--out {uri}"
    )


def storage_problem(error: Exception) -> str:
    """What the storage says, in one line without places in Lance's own code."""
    text = " ".join(str(error).split("/rustc/")[0].split("/home/runner/")[0].split())
    number = re.search(r"os error (\d+)", text)
    if number:
        return os.strerror(int(number[1])).lower()
    return text.removeprefix("LanceError(IO): ").rstrip(" ,")[:300]


def _problem(uri: str, error: Exception) -> DataError:
    return DataError(f"{uri} cannot be opened: {storage_problem(error)}; check it and your access")


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ValueError) and "was not found" in str(error)
