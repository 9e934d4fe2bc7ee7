"""A stranger's package: one part of each kind. Tests copy it to where it counts as installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tijepa import Objective, Section, register
from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.evaluate.figures import EvaluatedPairs
from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens, pool
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import ObjectiveOutput, Pooled
from tijepa.registry import Positive, PositiveInt
from tijepa.training.callbacks import Callback


class PullConfig(Section):
    strength: Positive = 1.0


@register("objective", "pull", config=PullConfig, needs=("targets",))
class Pull(Objective):
    """Each image towards the EMA target of its text, and all apart by their variance."""

    needs_targets = True

    def __init__(self, *, strength: float, **shared: Any) -> None:
        super().__init__(**shared)
        self.strength = strength

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        pairs = pooled.pairs
        if len(pairs) < 2:
            return ObjectiveOutput(pooled.image.new_zeros(()), {})
        image = model.context.embed_image(pooled.image[pairs])
        text = model.context.embed_text(pooled.text[pairs])
        assert model.target is not None
        assert pooled.target_text is not None
        with torch.no_grad():
            target = model.target.embed_text(pooled.target_text[pairs])
        pull = (image - target).square().mean()
        spread = sum((1 - x.std(dim=0)).relu().mean() for x in (image, text))
        return ObjectiveOutput(self.strength * pull + spread, {"pull": pull.detach()})


class PowerConfig(Section):
    exponent: Positive = 4.0


@register("energy", "power", config=PowerConfig)
def power(*, exponent: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda predicted, target: (predicted - target).abs().pow(exponent).mean(dim=-1)


@register("regularizer", "wide")
class Wide:
    def __init__(self, processes: Any) -> None:
        del processes

    def __call__(self, embedding: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - embedding.std(dim=0)).relu().mean()


class BlocksConfig(Section):
    width: PositiveInt = 8


@register("encoder", "blocks", config=BlocksConfig)
class Blocks(nn.Module):
    """Each of 4 x 4 blocks of an image by one linear map."""

    frozen = False

    def __init__(self, *, image_size: int, width: int) -> None:
        super().__init__()
        self.width = self.pooled_width = width
        self.grid = 4
        self.patch = nn.Conv2d(3, width, image_size // 4, stride=image_size // 4)

    def forward(self, images: Tensor, visible: TokenSubset | None = None) -> Encoded:
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        index = torch.arange(tokens.shape[1], device=images.device).expand(images.shape[0], -1)
        mask = torch.ones_like(index, dtype=torch.bool)
        if visible is not None:
            tokens, index, mask = gather_tokens(tokens, visible.index), visible.index, visible.mask
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pool(tokens, mask))


@register("encoder", "bag")
class Bag(nn.Module):
    """Words without order."""

    frozen = False

    def __init__(self, *, vocab_size: int, max_tokens: int) -> None:
        super().__init__()
        self.width = self.pooled_width = 8
        self.embed = nn.Embedding(vocab_size, 8)

    def forward(self, ids: Tensor, mask: Tensor, visible: TokenSubset | None = None) -> Encoded:
        tokens = self.embed(ids)
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            tokens, index, mask = gather_tokens(tokens, visible.index), visible.index, visible.mask
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pool(tokens, mask))


@register("predictor", "linear")
class Linear(nn.Linear):
    def __init__(self, *, dim: int) -> None:
        super().__init__(dim, dim)


@register("reader", "numbered")
class Numbered(Reader):
    """A folder of `NUMBER.png` and one `words.txt` with a line for each."""

    name: ClassVar[str] = "numbered"
    layout: ClassVar[str] = "NUMBER.png beside words.txt"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._folder = Path(source)

    @classmethod
    def recognises(cls, source: str) -> bool:
        return "\0" not in source and (Path(source[:4000]) / "words.txt").is_file()

    def __iter__(self) -> Iterator[Record | Rejected]:
        for number, words in enumerate((self._folder / "words.txt").read_text().splitlines()):
            path = self._folder / f"{number}.png"
            split = ("train", "train", "validation", "test")[number % 4]
            yield Record(str(number), path.name, path.read_bytes(), (words,), split)

    def describe(self) -> str:
        return f"{self._folder}: numbered images"

    def fingerprint(self) -> str:
        return str((self._folder / "words.txt").stat().st_mtime_ns)


@register("evaluation", "median_gap")
def median_gap(pairs: EvaluatedPairs) -> dict[str, float]:
    """How much lower the energy of the right image is, for the median text."""
    energy = pairs.energy.pair
    right = energy.gather(0, pairs.image_of_text[None])[0]
    return {"gap": float((energy.mean(dim=0) - right).median())}


@register("logger", "losses")
class Losses(Callback):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "losses.txt"

    def on_step(self, step: int, record: Any) -> None:
        if record is not None:
            with self._path.open("a") as file:
                file.write(json.dumps([step, record["loss"]]) + "\n")


@register("search_backend", "plain")
class Plain:
    def __init__(self, values: NDArray[np.floating]) -> None:
        self._values = values

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        rows = np.arange(len(self._values)) if allowed is None else allowed
        order = np.argsort(-(queries @ np.asarray(self._values)[rows].T), axis=1)
        found: NDArray[np.int64] = rows[order[:, :k]]
        return found
