"""A saved model: weights, tokenizer, calibration, provenance and page in one folder."""

from __future__ import annotations

from pathlib import Path

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.hub.page import page
from tijepa.hub.provenance import PROVENANCE, Provenance
from tijepa.model.saving import FROZEN, ModelCard, save_model, save_tensors, write_json
from tijepa.model.text_image_model import TextImageModel
from tijepa.model.writing import writing
from tijepa.objectives.calibration import Calibration

__all__ = ["write_model"]


def write_model(
    folder: Path,
    model: TextImageModel,
    card: ModelCard,
    tokenizer: Tokenizer,
    calibration: Calibration | None,
    provenance: Provenance,
) -> Path:
    """Write all of it into `folder`, which is made where it is not there; gives the folder.

    A saved model that stands there is replaced: `provenance.json`, by which it is known, comes
    first, and `model.json`, without which nothing can be loaded, last. Raises `ConfigError` where
    the folder holds anything else, `CheckpointError` where it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PROVENANCE).is_file():
        raise ConfigError(
            f"{folder} holds files that are no saved model: name a new or an empty folder"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(provenance.to_json(), folder / PROVENANCE)
    with writing(folder):
        for leftover in ("model.json", "calibration.safetensors", FROZEN):
            (folder / leftover).unlink(missing_ok=True)
        tokenizer.save(folder / "tokenizer.json")
        text = page(folder.resolve().name, card, provenance)
        (folder / "README.md").write_text(text, encoding="utf-8")
    if calibration is not None:
        save_tensors(calibration.state(), folder / "calibration.safetensors")
    save_model(model, card, folder)
    return folder
