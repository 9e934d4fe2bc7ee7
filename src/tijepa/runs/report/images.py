"""Images in reports as data, and energies as images: a matrix, or a map over an image."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from tijepa.data.images import centre_square
from tijepa.errors import ConfigError, DataError
from tijepa.evaluate.grounding import FLAT_FROM, UNRELATED, sameness
from tijepa.inference.fine import WordEnergies
from tijepa.inference.inputs import check_text, image_inputs, read_image
from tijepa.inference.loading import load
from tijepa.io.files import writing
from tijepa.io.page import data_uri

NOT_A_NUMBER = (140, 140, 140)  # grey: no colour of the ramp
SHOWN_SHARE = 0.99  # energies above this quantile share the last colour, so outliers don't bleach


@dataclass(frozen=True)
class EnergyImage:
    """A matrix of energies and its legend as data URIs, and the energies at the legend's ends."""

    matrix: str
    legend: str
    low: float
    high: float


def draw_energies(energy: Float[Tensor, "i t"], cell: int = 8) -> EnergyImage:
    """Colour each energy: the lowest light yellow, high ones dark blue, linear in between.

    One cell is `cell` pixels wide. Energies that are not finite are grey; if all
    are equal, all have the middle colour. Raises `DataError` for an
    empty matrix.
    """
    if energy.numel() == 0:
        raise DataError("the energy matrix is empty: give the energies of at least one pair")
    values = energy.detach().cpu().double().numpy()
    finite = values[np.isfinite(values)]
    low = float(finite.min()) if finite.size else 0.0
    high = float(np.quantile(finite, SHOWN_SHARE)) if finite.size else 0.0
    ramp = colour_ramp()
    position = np.full_like(values, 0.5)  # equal energies: none is low
    if high > low:
        finite_values = np.where(np.isfinite(values), values, low)
        position = np.clip((finite_values - low) / (high - low), 0.0, 1.0)
    pixels = ramp[np.rint(position * (len(ramp) - 1)).astype(np.int64)]
    pixels[~np.isfinite(values)] = NOT_A_NUMBER
    enlarged = pixels.repeat(cell, axis=0).repeat(cell, axis=1)
    legend = np.broadcast_to(ramp[None], (8, *ramp.shape))
    return EnergyImage(_png(enlarged), _png(np.ascontiguousarray(legend)), low, high)


def colour_ramp(steps: int = 256) -> np.ndarray:
    """uint8 (steps, 3): light yellow over green to dark violet, lightness even in OKLab.

    Lightness falls linearly from 0.95 to 0.22, so order survives colour blindness and grey print;
    hue turns from 105° to 285° and chroma is least in the middle, where
    sRGB has the least of it. OKLab to linear sRGB as
    published by B. Ottosson (2020); the transfer curve is that of IEC 61966-2-1.
    """
    t = np.linspace(0.0, 1.0, steps)
    lightness = 0.95 - 0.73 * t
    hue = np.deg2rad(105.0 + 180.0 * t)
    chroma = 0.115 - 0.027 * np.sin(np.pi * t)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone**3 @ to_rgb.T, 0.0, 1.0)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: np.ndarray = np.rint(255 * curved).astype(np.uint8)
    return pixels


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return data_uri("png", buffer.getvalue())


SHOWN = 512  # pixels a side of the overlay


@dataclass(frozen=True)
class Explanation:
    """The map, its lowest cell (row and column from 0), and the pair's energy, all by one form.

    `sameness` is the map's correlation with that of unrelated words: from 0.8 on it is `flat`.
    `probability` is that of a match of the pair where every second is matched, None where unknown.
    `words` is the fine energy word by word, None where the model was not trained for it.
    """

    energy_map: Float[Tensor, "g g"]
    row: int
    column: int
    lowest: float
    pair: float
    form: str
    sameness: float
    probability: float | None
    words: WordEnergies | None = None

    @property
    def flat(self) -> bool:
        """Whether the map is much like that of unrelated words, and may tell nothing of its own."""
        return self.sameness >= FLAT_FROM


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
        raise ConfigError(f"`out` {out} is no PNG: give a name that ends with .png")
    if out.resolve() == image.resolve():
        raise ConfigError(f"`out` {out} is the image itself: name another file")
    embedder = load(run, checkpoint=checkpoint)
    photo = read_image(image)
    inputs = image_inputs([photo], slice(0, 1), embedder.card)[0]
    energy, *unrelated = embedder.energy_maps_of_input(inputs, [text, *UNRELATED], grid=grid)
    pair = embedder.energy(photo, text)
    lowest = int(energy.argmin())
    shown, by = centre_square(photo, SHOWN), embedder.calibration
    write_overlay(out, Image.fromarray(shown), energy)
    return Explanation(
        energy_map=energy,
        row=lowest // grid,
        column=lowest % grid,
        lowest=float(energy.min()),
        pair=float(pair),
        form=embedder.default_form,
        sameness=sameness(energy, torch.stack(unrelated)),
        probability=None if embedder.match is None else float(embedder.match.probability(pair)),
        words=None if by is None or by.fine is None else embedder.fine.words(photo, text),
    )


# An energy map over its image: a translucent colour where energy is low, and a colour scale.
#
# Colours are those of the report (`colour_ramp`): light yellow is the lowest energy of the map,
# dark
# violet the highest. The image shines through more where energy is high.


LEAST, MOST = 0.15, 0.65  # opacity where energy is highest and lowest
SCALE = 26  # height of the strip with the colour scale below the image, in pixels
BAR = 8
MARGIN = 4


def draw_overlay(image: Image.Image, energy: Float[Tensor, "g g"]) -> Image.Image:
    """The square `image` under the map, upsampled without overshoot, above its colour scale.

    The lowest cell is framed in white. A flat map has the middle colour throughout and no frame.
    Raises `DataError` for a map that holds a value that is not finite.
    """
    side = image.width
    assert image.height == side, image.size
    values = energy.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise DataError("the energy map holds values that are not finite: the model is unusable")
    low, high = float(values.min()), float(values.max())
    level = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    smooth = Image.fromarray(level.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    at = np.clip(np.asarray(smooth), 0.0, 1.0)
    ramp = colour_ramp()
    colours = ramp[np.rint(at * (len(ramp) - 1)).astype(np.int64)].astype(np.float64)
    opacity = (MOST - (MOST - LEAST) * at)[:, :, None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    mixed = np.rint(opacity * colours + (1 - opacity) * pixels).astype(np.uint8)
    sheet = Image.new("RGB", (side, side + SCALE), "white")
    sheet.paste(Image.fromarray(mixed), (0, 0))
    draw = ImageDraw.Draw(sheet)
    if high > low:
        _frame(draw, values, side)
    _scale(sheet, draw, ramp, low, high)
    return sheet


def write_overlay(path: Path, image: Image.Image, energy: Float[Tensor, "g g"]) -> None:
    """Write the overlay as PNG; `CheckpointError` where the file cannot be written."""
    sheet = draw_overlay(image, energy)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG", optimize=True)


def _frame(draw: ImageDraw.ImageDraw, values: np.ndarray, side: int) -> None:
    """A white border around the lowest cell, the first of several."""
    row, column = divmod(int(values.argmin()), values.shape[1])
    cell = side / values.shape[1]
    x, y = round(column * cell), round(row * cell)
    box = (x, y, round((column + 1) * cell) - 1, round((row + 1) * cell) - 1)
    draw.rectangle(box, outline="white", width=max(1, side // 160))


def _scale(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, ramp: np.ndarray, low: float, high: float
) -> None:
    """The ramp from left (low) to right (high), and both ends as numbers below it."""
    side = sheet.width
    bar = np.broadcast_to(ramp[None], (1, *ramp.shape))
    strip = Image.fromarray(np.ascontiguousarray(bar)).resize((side - 2 * MARGIN, BAR))
    top = sheet.height - SCALE + MARGIN
    sheet.paste(strip, (MARGIN, top))
    line = top + BAR + 1
    draw.text((MARGIN, line), f"{low:.3g}", fill="black")
    right = f"{high:.3g}"
    draw.text((side - MARGIN - draw.textlength(right), line), right, fill="black")
