from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tijepa.classify import FitOptions, Tuning, fit_classifier
from tijepa.classify import features as examples_module
from tijepa.classify import finetune as finetune_module
from tijepa.classify.labels import Items
from tijepa.inference.embedder import Embedder


def test_fine_tuning_in_folds_encodes_all_items_as_they_are_once(
    tiny_run: Path, tweets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe from which a fold's head starts takes its rows of them; what is encoded later are
    the tenth held out of each fit, before the first epoch and after it."""
    counts: dict[str, list[int]] = {"once": [], "each": []}
    real = examples_module.item_features

    def counted(kind: str) -> Callable[..., Any]:
        def encode(embedder: Embedder, items: Items, *rest: Any, **more: Any) -> Any:
            counts[kind].append(len(items))
            return real(embedder, items, *rest, **more)

        return encode

    monkeypatch.setattr(examples_module, "item_features", counted("once"))
    monkeypatch.setattr(finetune_module, "item_features", counted("each"))
    options = FitOptions(folds=3, side="text", tuning=Tuning("text", 1, 1e-3))
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    fit_classifier(tmp_path, str(tweets), "mood", options=options)
    assert counts["once"] == [41]
    assert len(counts["each"]) == 2 * 4
    assert max(counts["each"]) < 10
