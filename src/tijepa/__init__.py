"""tijepa: align text and images by prediction in latent space, without negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tijepa.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
    NonFiniteError,
    TijepaError,
)
from tijepa.version import __version__

if TYPE_CHECKING:
    from tijepa.inference.embedder import Embedder, load

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Embedder",
    "MissingExtraError",
    "NonFiniteError",
    "TijepaError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for, so that `import tijepa` is instant."""
    if name in ("Embedder", "load"):
        from tijepa.inference import embedder

        return getattr(embedder, name)
    raise AttributeError(f"module 'tijepa' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
