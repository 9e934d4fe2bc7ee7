"""A matrix of energies as colours, and its ramp."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tijepa.errors import DataError
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
