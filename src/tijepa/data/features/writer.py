"""Write a table of features piece by piece; what is interrupted goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from tijepa.data.features.table import COMPLETE, FILES, to_bf16
from tijepa.errors import DataError

__all__ = ["FeatureWriter", "unwritable"]

_PROGRESS = "progress.json"


class FeatureWriter:
    """Appends the features of items, in order, to the files of `folder`.

    `items` is how many of them are written already. A piece counts once `progress.json` says so,
    which is replaced after the piece is on disk: whatever a killed process wrote beyond is cut off.
    Raises `DataError` where the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, made_of: Mapping[str, Any], *, tokens: bool) -> None:
        self._folder = folder
        self._made_of = dict(made_of)
        self._names = tuple(FILES) if tokens else ("rows", "pooled")
        self._widths: dict[str, int] = {}
        self._bytes = dict.fromkeys(self._names, 0)
        self._broken: dict[str, str] = {}
        self.items = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._recover()
        except OSError as error:
            raise unwritable(self._folder, error) from None

    def add(
        self,
        rows: Sequence[int],
        pooled: Float[Tensor, "r p"],
        tokens: Float[Tensor, "r n d"] | None,
        mask: Bool[Tensor, "r n"] | None,
        broken: Mapping[int, str],
    ) -> None:
        """The next items: how many rows each has, all their rows, and which could not be read."""
        parts: dict[str, NDArray[Any]] = {
            "rows": np.asarray(rows, dtype=np.uint32),
            "pooled": pooled.float().cpu().numpy(),
        }
        if "tokens" in self._names:
            assert tokens is not None
            assert mask is not None
            parts["lengths"] = mask.sum(dim=1).cpu().numpy()
            parts["tokens"] = to_bf16(tokens.cpu()[mask.cpu()])
        try:
            for name in self._names:
                self._append(name, parts[name])
            self.items += len(rows)
            self._broken |= {str(item): reason for item, reason in broken.items()}
            self._write(_PROGRESS, self._state())
        except OSError as error:
            raise unwritable(self._folder, error) from None

    def finish(self) -> None:
        """Say that the table is complete."""
        shapes = {}
        for name in self._names:
            values = self._bytes[name] // FILES[name][1].itemsize
            width = self._widths.get(name)
            shapes[name] = [values] if width is None else [values // width, width]
        found = {"made_of": self._made_of, "shapes": shapes, "broken": self._broken}
        try:
            self._write(COMPLETE, found)
            (self._folder / _PROGRESS).unlink()
        except OSError as error:
            raise unwritable(self._folder, error) from None

    def _append(self, name: str, values: NDArray[Any]) -> None:
        file, dtype = FILES[name]
        if values.ndim == 2:
            self._widths[name] = values.shape[1]
        data = np.ascontiguousarray(values, dtype=dtype).tobytes()
        with open(self._folder / file, "ab") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        self._bytes[name] += len(data)

    def _state(self) -> dict[str, Any]:
        return {
            "made_of": self._made_of,
            "items": self.items,
            "bytes": self._bytes,
            "widths": self._widths,
            "broken": self._broken,
        }

    def _recover(self) -> None:
        """Go on from the last whole piece; from nothing where there is none of the same making."""
        path = self._folder / _PROGRESS
        if path.exists():
            try:
                state = json.loads(path.read_text(encoding="utf-8"))
                if state["made_of"] == self._made_of and set(state["bytes"]) == set(self._names):
                    self.items, self._bytes = state["items"], state["bytes"]
                    self._widths, self._broken = state["widths"], state["broken"]
            except (ValueError, KeyError, TypeError):
                path.unlink()
        for name in self._names:
            with open(self._folder / FILES[name][0], "ab") as out:
                out.truncate(self._bytes[name])

    def _write(self, name: str, value: Any) -> None:
        temporary = self._folder / f".{name}.tmp"
        temporary.write_text(json.dumps(value) + "\n", encoding="utf-8")
        os.replace(temporary, self._folder / name)


def unwritable(folder: Path, error: OSError) -> DataError:
    """What a user can do where features cannot be kept."""
    return DataError(
        f"cannot keep features in {folder}: {error.strerror}; mend that, or set "
        "data.cache_features=false and the frozen encoders run at every step"
    )
