"""Explain a pair: the energy map of a text over an image, drawn, and the figures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tijepa.data.images import centre_square
from tijepa.embedder import load, read_image
from tijepa.encoding.inputs import check_text
from tijepa.errors import ConfigError
from tijepa.evaluate.overlay import write_overlay

__all__ = ["Explanation", "explain_pair"]

SHOWN = 512  # pixels a side of the overlay


@dataclass(frozen=True)
class Explanation:
    """The map, its lowest cell (row and column from 0), and the pair's energy, all by one form."""

    energy_map: Float[Tensor, "g g"]
    row: int
    column: int
    lowest: float
    pair: float
    form: str


def explain_pair(
    run: Path, image: Path, text: str, out: Path, *, grid: int = 8, checkpoint: str | None = None
) -> Explanation:
    """Write the overlay of `text` over `image` to `out`, by the model of `run`.

    Raises `ConfigError` for an empty text, a name of `out` that is not .png or a grid out of
    bounds, `DataError` for an image that cannot be read, `CheckpointError` for a run without model
    or where `out` cannot be written.
    """
    check_text(text)
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out} is no PNG: give a name that ends with .png")
    if out.resolve() == image.resolve():
        raise ConfigError(f"--out {out} is the image itself: name another file")
    embedder = load(run, checkpoint=checkpoint)
    picture = read_image(image)
    energy = embedder.energy_map(picture, text, grid=grid)
    lowest = int(energy.argmin())
    shown = centre_square(picture, SHOWN)
    write_overlay(out, Image.fromarray(shown), energy)
    return Explanation(
        energy_map=energy,
        row=lowest // grid,
        column=lowest % grid,
        lowest=float(energy.min()),
        pair=float(embedder.energy(picture, text)),
        form=embedder.default_form,
    )
