"""Errors of the machine that the user can mend, in words: disks and memory."""

from __future__ import annotations

import errno
import re

from tijepa.model.writing import remedy_of

__all__ = ["machine_problem"]

# of torch's allocators on CPU (Linux, Windows and macOS) and on GPUs
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
_ASKED = re.compile(r"allocate ([\d.]+ ?(?:bytes|[KMGT]iB))")
_LESS_MEMORY = (
    "a run needs less with a larger optim.accumulate, compute.gradient_checkpointing=true, a"
    " smaller optim.batch_size or a smaller model"
)


def machine_problem(error: BaseException) -> str | None:
    """One line that names what is wrong and the remedy; None where it may be a bug."""
    if isinstance(error, OSError) and error.errno != errno.ENOENT:
        remedy = remedy_of(error)
        path = f"{error.filename}: " if error.filename else ""
        return f"{path}{error.strerror}; {remedy}" if remedy else None
    said = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(said)
    ):
        asked = _ASKED.search(said)
        wanted = f" ({asked[1]} were asked for at once)" if asked else ""
        return f"out of memory{wanted}; {_LESS_MEMORY}"
    return None
