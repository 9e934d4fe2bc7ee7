"""tijepa: align text and images by prediction in latent space, without negatives.

Whatever needs torch is imported when it is first asked for, so that `import tijepa` is instant.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tijepa.errors import (
    CheckpointError,
    CollapseError,
    ConfigError,
    DataError,
    ImageError,
    MissingExtraError,
    NonFiniteError,
    TijepaError,
)
from tijepa.version import __version__

if TYPE_CHECKING:
    from tijepa.data.store.prepare import prepare
    from tijepa.data.validation.diagnosis import doctor
    from tijepa.inference.embedder import Embedder
    from tijepa.inference.loading import load
    from tijepa.objectives.base import Objective
    from tijepa.registry import Section, register
    from tijepa.runs.compare import compare_runs as compare
    from tijepa.runs.evaluation import evaluate_run as evaluate
    from tijepa.search.answer import search
    from tijepa.search.filter import filter_store as filter
    from tijepa.search.index import index
    from tijepa.training import Callback, Evaluated, HeldOut, Schedule, Trainer
    from tijepa.training.api import Run, train

__all__ = [
    "Callback",
    "CheckpointError",
    "CollapseError",
    "ConfigError",
    "DataError",
    "Embedder",
    "Evaluated",
    "HeldOut",
    "ImageError",
    "MissingExtraError",
    "NonFiniteError",
    "Objective",
    "Run",
    "Schedule",
    "Section",
    "TijepaError",
    "Trainer",
    "__version__",
    "compare",
    "doctor",
    "evaluate",
    "filter",
    "index",
    "load",
    "prepare",
    "register",
    "search",
    "train",
]

# name: where it is imported from on first use, as module:attribute
_LATER = {
    "Callback": "tijepa.training:Callback",
    "Embedder": "tijepa.inference.embedder:Embedder",
    "Evaluated": "tijepa.training:Evaluated",
    "HeldOut": "tijepa.training:HeldOut",
    "Objective": "tijepa.objectives.base:Objective",
    "Run": "tijepa.training.api:Run",
    "Schedule": "tijepa.training:Schedule",
    "Section": "tijepa.registry:Section",
    "Trainer": "tijepa.training:Trainer",
    "compare": "tijepa.runs.compare:compare_runs",
    "doctor": "tijepa.data.validation.diagnosis:doctor",
    "evaluate": "tijepa.runs.evaluation:evaluate_run",
    "filter": "tijepa.search.filter:filter_store",
    "index": "tijepa.search.index:index",
    "load": "tijepa.inference.loading:load",
    "prepare": "tijepa.data.store.prepare:prepare",
    "register": "tijepa.registry:register",
    "search": "tijepa.search.answer:search",
    "train": "tijepa.training.api:train",
}


def _imported(name: str) -> Any:
    module, _, attribute = _LATER[name].partition(":")
    return getattr(import_module(module), attribute)


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER`; a room of the same name is called in its place."""
    if name not in _LATER:
        raise AttributeError(f"module 'tijepa' has no attribute '{name}'")
    found = _imported(name)
    return globals().get(name, found)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Rooms called like a verb, `tijepa.search` and `tijepa.evaluate`, can be called as it.

    Python binds a room here once it is imported, which would hide the function of that name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LATER and isinstance(value, ModuleType):

            class Room(ModuleType):
                def __call__(self, *arguments: Any, **keywords: Any) -> Any:
                    return _imported(name)(*arguments, **keywords)

            value.__class__ = Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
