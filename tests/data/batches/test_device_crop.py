"""Cropping a batch by two matrix products shows what cropping each image on the host shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.batches.batch_builder import crop_on_device
from tijepa.data.batches.loader import Loader
from tijepa.data.images import Crop, normalise, resize_crop
from tijepa.data.pairs import Batch, Item, PairSource, StoredImage
from tijepa.data.tokenizer import Tokenizer

SIZE = 32
HALF = (0.5, 0.5, 0.5)
LEVEL = 2 / 255  # one grey level of normalised pixels


def noise(side: int, seed: int = 0) -> np.ndarray:
    """Of so little contrast that bicubic overshoot stays within 0 to 255 (48 * 1.25^2 = 75)."""
    return np.random.default_rng(seed).integers(80, 176, (side, side, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(side=st.integers(4, 90), size=st.integers(2, 48), mirrored=st.booleans())
def test_a_whole_canvas_is_resized_as_on_the_host(side: int, size: int, mirrored: bool) -> None:
    """Up and down alike; the host rounds to whole levels twice, after each axis: 1.5 levels."""
    pixels = noise(side)
    device = crop_on_device(
        torch.from_numpy(pixels)[None],
        torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        torch.tensor([mirrored]),
        size,
        HALF,
        HALF,
    )
    host = normalise(resize_crop(pixels, Crop(0, 0, side, side), size, mirrored)[None])
    assert float((device - host).abs().max()) <= 1.5 * LEVEL


def test_items_of_a_batch_have_regions_of_their_own() -> None:
    """Regions of whole pixels, away from their edges, where the host cannot look beyond."""
    pixels = noise(64)
    crops = [Crop(0, 8, 48, 32), Crop(16, 0, 40, 64)]
    device = crop_on_device(
        torch.from_numpy(np.stack([pixels, pixels])),
        torch.tensor([[c.top, c.left, c.height, c.width] for c in crops]) / 64,
        torch.tensor([False, True]),
        SIZE,
        HALF,
        HALF,
    )
    for row, crop, mirrored in zip(device, crops, (False, True), strict=True):
        host = normalise(resize_crop(pixels, crop, SIZE, mirrored)[None])[0]
        assert float((row - host)[:, 2:-2, 2:-2].abs().max()) <= 1.5 * LEVEL


def test_pixels_are_normalised_by_channel() -> None:
    """Level 51 is 0.2: (0.2 - 0.1) / 0.5, (0.2 - 0.2) / 1, (0.2 - 0.4) / 0.1."""
    images = crop_on_device(
        torch.full((1, 9, 9, 3), 51, dtype=torch.uint8),
        torch.tensor([[0.1, 0.2, 0.5, 0.6]]),
        torch.tensor([False]),
        4,
        (0.1, 0.2, 0.4),
        (0.5, 1.0, 0.1),
    )
    assert torch.allclose(images[0, :, 2, 2], torch.tensor([0.2, 0.0, -2.0]), atol=1e-5)


@dataclass(frozen=True)
class Slope(StoredImage):
    """Red grows from left to right, green from top to bottom."""

    height: int
    width: int

    def pixels(self, min_side: int) -> np.ndarray:
        result = np.zeros((self.height, self.width, 3), dtype=np.uint8)
        result[:, :, 0] = np.linspace(20, 235, self.width).round()
        result[:, :, 1] = np.linspace(20, 235, self.height).round()[:, None]
        return result


class Slopes(PairSource):
    """Landscapes, portraits and squares; the last item has no image."""

    def __len__(self) -> int:
        return 8

    def item_id(self, index: int) -> str:
        return str(index)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [
            Item(("a slope",), None if i == 7 else Slope(90 + 12 * i, 200 - 15 * i))
            for i in indexes
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [("a slope",) for _ in indexes]


def batches(augment: str, **options: object) -> list[Batch]:
    tokenizer = Tokenizer.train(["a slope"] * 3, 64)
    settings = {"batch_size": 8, "image_size": SIZE, "max_tokens": 4, "seed": 1, **options}
    with Loader(Slopes(), tokenizer, augment=augment, **settings) as loader:  # type: ignore[arg-type]
        return list(islice(loader, 6))


def test_the_device_shows_the_regions_that_the_host_shows() -> None:
    """On slopes a shift of one pixel of a region of 100 would be over 2 levels of 215.

    What differs is resampling: the edges of the region (the host cannot look beyond), and rounding
    to levels and whole pixels.
    """
    options = {"crop_scale": (0.4, 1.0), "flip": True}
    turned = set()
    pairs = zip(batches("host", **options), batches("device", **options), strict=True)
    for host, device in pairs:
        assert torch.equal(host.indices, device.indices)
        assert torch.equal(host.tokens, device.tokens)
        assert (device.images[~device.has_image] == 0).all()
        assert not device.has_image.all()
        difference = (host.images - device.images).abs()
        assert float(difference[:, :, 1:-1, 1:-1].max()) <= 2.5 * LEVEL
        assert float(difference.mean()) <= 0.5 * LEVEL
        seen = host.images[host.has_image]
        turned |= set((seen[:, 0, 0, 0] > seen[:, 0, 0, -1]).tolist())
    assert turned == {True, False}


def test_the_largest_square_is_that_of_the_host() -> None:
    """Crop scale (1, 1) and no mirroring."""
    for host, device in zip(batches("host"), batches("device"), strict=True):
        difference = (host.images - device.images).abs()
        assert float(difference[:, :, 1:-1, 1:-1].max()) <= 2.5 * LEVEL


def test_cropping_on_the_device_is_deterministic_under_threads() -> None:
    options = {"crop_scale": (0.4, 1.0), "flip": True}
    alone = batches("device", threads=0, **options)
    for a, b in zip(alone, batches("device", threads=3, **options), strict=True):
        assert torch.equal(a.images, b.images)


def test_images_travel_to_the_device_as_bytes() -> None:
    """Canvas of 32 / sqrt(0.25) = 64 pixels: as large as the smallest crop of a square needs."""
    tokenizer = Tokenizer.train(["a slope"] * 3, 64)
    with Loader(
        Slopes(),
        tokenizer,
        batch_size=8,
        image_size=SIZE,
        max_tokens=4,
        seed=0,
        crop_scale=(0.25, 1.0),
        augment="device",
        threads=0,
        device="meta",
    ) as loader:
        batch = next(iter(loader))
    assert batch.images.device.type == "meta"
    assert batch.images.shape == (8, 3, SIZE, SIZE)
