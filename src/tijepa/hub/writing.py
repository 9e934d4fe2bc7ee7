"""A saved model: weights, tokenizer, calibration, provenance and page in one folder."""

from __future__ import annotations

from pathlib import Path

from tijepa.data.tokenizer import Tokenizer
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

    `model.json`, without which nothing can be loaded, comes last. Raises `CheckpointError`
    where the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in ("model.json", "calibration.safetensors", FROZEN):
            (folder / leftover).unlink(missing_ok=True)
        tokenizer.save(folder / "tokenizer.json")
        text = page(folder.resolve().name, card, provenance)
        (folder / "README.md").write_text(text, encoding="utf-8")
    if calibration is not None:
        save_tensors(calibration.state(), folder / "calibration.safetensors")
    write_json(provenance.to_json(), folder / PROVENANCE)
    save_model(model, card, folder)
    return folder
