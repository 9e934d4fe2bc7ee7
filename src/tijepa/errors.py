"""The exceptions of tijepa, all of them.

TijepaError
├── ConfigError        a setting that is unknown, out of bounds or without effect
├── DataError          a source, an item or a split that cannot be used
│   └── ImageError   bytes that give no image
├── CheckpointError    a run, checkpoint or model that is missing, incomplete or of another shape
├── CollapseError      the collapse guard stopped the run, as guard.action asks
├── NonFiniteError     the loss or a gradient stopped being a number
└── MissingExtraError  an optional dependency is not installed

Every one of them is a user's matter: its message is one line that names the value, the bound and
the remedy, and the command line prints that line and exits with code 2. Broken invariants of
tijepa itself are `AssertionError`s, and those are bugs. `CollapseError` exits with code 3, so that
a script can tell it from a mistake: the run is whole, only its training ended early.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CollapseError",
    "ConfigError",
    "DataError",
    "ImageError",
    "MissingExtraError",
    "NonFiniteError",
    "TijepaError",
]


class TijepaError(Exception):
    """Root of all errors that a user can cause and mend."""


class ConfigError(TijepaError):
    """A setting is unknown, out of bounds, or would have no effect."""


class DataError(TijepaError):
    """A source, an item or a split cannot be used."""


class ImageError(DataError):
    """Bytes that give no image; `kind` is a slug for lists and counts, such as "image-empty"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class CheckpointError(TijepaError):
    """A run, checkpoint or saved model is missing, incomplete or of another shape."""


class CollapseError(TijepaError):
    """The collapse guard stopped the run; the best healthy checkpoint is evaluated all the same."""


class NonFiniteError(TijepaError):
    """The loss or a gradient is infinite or not a number; the update was not applied."""


class MissingExtraError(TijepaError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'tijepa[{extra}]'")
