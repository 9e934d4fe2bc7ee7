"""Calibrated energy: how much better a prediction fits than what is typical.

For one direction x → y with prediction p = g(x), let μ_p, μ_y be the means over training pairs and
q = μ_y + M (p − μ_p) the prediction as calibrated. M is the identity, which only moves the mean,
or the ridge regression of targets on predictions, which corrects a predictor that has not
converged. Residuals r = y − q are fitted by a Gaussian N(0, Σ_r), the targets by N(μ_y, Σ_y), and

    E(x, y) = −log N(y; q, Σ_r) + log N(y; μ_y, Σ_y),

the negative pointwise mutual information under the model's own Gaussians, in nats. The energy of
a pair is the mean of both directions. It may be negative: below 0 the pair is likelier together
than by chance. With M regressed it is that of the Gaussian of predictions and targets together:
what canonical correlation analysis would find in them (Hotelling 1936; Bach and Jordan 2005).

**Two experts.** What a model learned to predict is one expert: the *heads'* energy is the mean of
both directions between embeddings. The other is the *direct* one: the encoders' own pooled tokens,
regressed on each other by ridge regression. They err on different items, so the mean of both finds
more than either (docs/decisions/0023). A model in closed form learned nothing else: it has the
direct expert alone.

**Who asks.** Of the direct expert a search takes one direction: a text finds images by
−log p(t|i) + log p(t), it asks from which image it most likely came; an image finds texts by
−log p(i|t) + log p(i). Were the Gaussians true both were one number; as they are not, the density
of the query compares candidates fairly. The energy of a pair is the mean of both searches.

**As an inner product.** Let W'W = Σ_r⁻¹, V'V = Σ_y⁻¹ and o = ½ log|Σ_r| − ½ log|Σ_y|. With
u = W M (p − μ_p), v = W (y − μ_y) and the target's own term b = ½ ‖V (y − μ_y)‖²,

    E(x, y) = ½ ‖u − v‖² − b + o = −u·v + a + c   with a = ½ ‖u‖² and c = ½ ‖v‖² − b + o,

a of the prediction alone, c of the target alone. A weighted sum of such energies is one again, with
the vectors, times the roots of their weights, side by side. So an image is [w ; −a ; 1] and a text
[w ; 1 ; −c] for each search, with the inner product −E; a joint embedding holds both such rows,
that by which images are found and that by which texts are, times √½. Whole rows have the inner
product −E of the pair, each half has half of the energy that is searched by. An index of maximum
inner products searches by it exactly. In the direct expert u has few directions that matter (its
variance is that of the canonical correlations); the others are left out of u, and of v but for c.
Longer rows than `ROW_NUMBERS` are compressed (`inference/compression.py`): they search by an
energy that is nearly the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features import Modality
from tijepa.inference.compression import ROW_NUMBERS, LowRank, fit_low_rank
from tijepa.inference.embeddings import (
    Embedded,
    Embeddings,
    Form,
    SearchEnergies,
    cosine_energy,
    squared_l2_energy,
)
from tijepa.inference.fine import FineCalibration
from tijepa.inference.match_probability import MatchProbability

EXPERTS = ("heads", "direct")


class _Block(NamedTuple):
    """What an item brings to one energy: E(x, y) = −w_x·w_y + own_x + own_y."""

    w: Float[Tensor, "n k"]
    own: Float[Tensor, " n"]


@dataclass(frozen=True)
class DirectionCalibration:
    """Means, W M, the whitening W (Wᵀ W = Σ⁻¹) of both Gaussians, and ½ log|Σ_r| − ½ log|Σ_y|.

    W M has k ≤ q rows: what the prediction says of the first k whitened dimensions of the target;
    of the others it says their mean.
    """

    predicted_mean: Float[Tensor, " p"]
    predicted_whiten: Float[Tensor, "k p"]
    residual_whiten: Float[Tensor, "q q"]
    target_mean: Float[Tensor, " q"]
    target_whiten: Float[Tensor, "q q"]
    offset: Float[Tensor, ""]

    def energy(
        self, predicted: Float[Tensor, "x p"], target: Float[Tensor, "y q"]
    ) -> Float[Tensor, "x y"]:
        """E for every prediction and target."""
        x, y = self.of_prediction(predicted), self.of_target(target)
        return (x.own[:, None] + y.own - x.w @ y.w.T).to(target.dtype)

    def of_prediction(self, predicted: Float[Tensor, "x p"]) -> _Block:
        """u = W M (p − μ_p) and a = ½ ‖u‖², float64."""
        u = (predicted.double() - self.predicted_mean) @ self.predicted_whiten.T
        return _Block(u, u.square().sum(dim=1) / 2)

    def of_target(self, target: Float[Tensor, "y q"]) -> _Block:
        """v = W (y − μ_y), of which the first k, and c = ½ ‖v‖² − b + o, float64."""
        y = target.double() - self.target_mean
        v, typical = y @ self.residual_whiten.T, y @ self.target_whiten.T
        own = (v.square().sum(dim=1) - typical.square().sum(dim=1)) / 2 + self.offset
        return _Block(v[:, : len(self.predicted_whiten)], own)

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        # copies: both directions share their means, and a file holds no tensor twice
        return {name: getattr(self, name).clone() for name in self.__dataclass_fields__}

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> DirectionCalibration:
        """The inverse of `state`, of what stands under `prefix`."""
        fields = cls.__dataclass_fields__
        return cls(**{name: named[f"{prefix}.{name}"].double() for name in fields})


class Directions(NamedTuple):
    """One calibration per direction, and the shrinkage and ridge that both were fitted with.

    `ridge` is None where predictions are taken as they are.
    """

    to_text: DirectionCalibration
    to_image: DirectionCalibration
    shrinkage: float
    ridge: float | None

    def of(self, modality: Modality, e: Embedded) -> tuple[_Block, _Block]:
        """What items bring to the energy of either direction."""
        if modality == "image":
            return self.to_text.of_prediction(e.prediction), self.to_image.of_target(e.embedding)
        return self.to_text.of_target(e.embedding), self.to_image.of_prediction(e.prediction)

    def energies(self, images: Embedded, texts: Embedded) -> SearchEnergies:
        """E of either direction: the density of texts finds images, that of images finds texts."""
        images_by = self.to_text.energy(images.prediction, texts.embedding)
        return SearchEnergies(images_by, self.to_image.energy(texts.prediction, images.embedding).T)

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        named = {"shrinkage": torch.tensor(self.shrinkage, dtype=torch.float64)}
        if self.ridge is not None:
            named["ridge"] = torch.tensor(self.ridge, dtype=torch.float64)
        named |= _under("to_text", self.to_text.state())
        return named | _under("to_image", self.to_image.state())

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> Directions:
        """The inverse of `state`, of what stands under `prefix`."""
        ridge = named.get(f"{prefix}.ridge")
        return cls(
            DirectionCalibration.from_state(named, f"{prefix}.to_text"),
            DirectionCalibration.from_state(named, f"{prefix}.to_image"),
            float(named[f"{prefix}.shrinkage"]),
            None if ridge is None else float(ridge),
        )


class Matches(NamedTuple):
    """P(match) from the energy of a pair, and from those by which images and texts are found.

    By the model's default form, whatever that is.
    """

    pair: MatchProbability
    images: MatchProbability
    texts: MatchProbability

    def among(self, modality: Modality) -> MatchProbability:
        """That of the energy by which items of a modality are found."""
        return self.images if modality == "image" else self.texts


class Compression(NamedTuple):
    """The maps of either half of a row, named by what it finds."""

    images: LowRank
    texts: LowRank


@dataclass(frozen=True)
class Calibration:
    """Both experts; `direct` is None where it helps nothing or pooled tokens are not known.

    `heads` is None where nothing was trained, and then there is a direct one. `match` is None where
    there were no held-out pairs to fit it on, `compression` where rows are short as they are, and
    `fine` where no token-level predictor foretells words.
    """

    heads: Directions | None
    direct: Directions | None = None
    match: Matches | None = None
    compression: Compression | None = None
    fine: FineCalibration | None = None

    def energy(self, e: Embeddings) -> Float[Tensor, "i t"]:
        """Calibrated energy of every image and text, in nats: the mean of both searches."""
        return self.search_energies(e).pair

    def search_energies(self, e: Embeddings) -> SearchEnergies:
        """The energies by which images and texts are found, in nats."""
        found = []
        if self.heads is not None:
            heads = self.heads.energies(e.of_images, e.of_texts).pair
            found.append(SearchEnergies(heads, heads))
        if self.direct is not None:
            found.append(self.direct.energies(e.of_images.direct, e.of_texts.direct))
        if len(found) == 1:
            return found[0]
        return SearchEnergies(*((one + other) / 2 for one, other in zip(*found, strict=True)))

    def rows(self, modality: Modality, e: Embedded) -> Float[Tensor, "n j"]:
        """Both halves of every item, times √½: [w ; −a ; 1] of an image, [w ; 1 ; −c] of a text.

        The inner product of an image's and a text's is −E(i, t), half of the energy of a search in
        each half; of compressed rows nearly so.
        """
        found = []
        for finds, half in zip(("images", "texts"), self._halves(modality, e), strict=True):
            w, own = half
            if self.compression is not None:
                low: LowRank = getattr(self.compression, finds)
                searched = finds == f"{modality}s"
                w, own = low.of(modality, w), own - low.moved if searched else own + low.moved
            one = torch.ones_like(own)[:, None]
            ends = [-own[:, None], one] if modality == "image" else [one, -own[:, None]]
            found += [w, *ends]
        return (math.sqrt(0.5) * torch.cat(found, dim=1)).to(e.embedding.dtype)

    def compressed(self, pairs: Embeddings, numbers: int = ROW_NUMBERS) -> Calibration:
        """The same energies with rows of at most that many numbers, fitted to training pairs."""
        images = self._halves("image", pairs.of_images)
        texts = self._halves("text", pairs.of_texts)
        rank = numbers // 2 - 2
        if images[0].w.shape[1] <= rank:
            return replace(self, compression=None)
        maps = (
            fit_low_rank(image.w, text.w, searched.own, rank)
            for image, text, searched in zip(images, texts, (images[0], texts[1]), strict=True)
        )
        return replace(self, compression=Compression(*maps))

    def _halves(self, modality: Modality, e: Embedded) -> list[_Block]:
        """What items bring to the energies by which images and texts are found.

        Heads weigh one half together, the direct expert the other where there is one.
        """
        heads = None if self.heads is None else self.heads.of(modality, e)
        if self.direct is None:
            assert heads is not None
            return [_weighted(heads, (0.5, 0.5))] * 2
        direct = self.direct.of(modality, e.direct)
        if heads is None:
            return list(direct)
        return [_weighted((*heads, one), (0.25, 0.25, 0.5)) for one in direct]

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors, for safetensors."""
        named: dict[str, Tensor] = {}
        for expert in EXPERTS:
            one: Directions | None = getattr(self, expert)
            if one is not None:
                named |= _under(expert, one.state())
        if self.match is not None:
            for name, match in self.match._asdict().items():
                named |= _under(f"match.{name}", match.state())
        if self.compression is not None:
            for name, low in self.compression._asdict().items():
                named |= _under(f"rows.{name}", low.state())
        return named if self.fine is None else named | _under("fine", self.fine.state())

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor]) -> Calibration:
        """The inverse of `state`, in float32 too; `KeyError` where a tensor is missing."""
        held = {name.partition(".")[0] for name in named}
        matches = None
        if "match" in held:
            of = (MatchProbability.from_state(named, f"match.{name}") for name in Matches._fields)
            matches = Matches(*of)
        if held.isdisjoint(EXPERTS):
            raise KeyError("heads")
        compression = None
        if "rows" in held:
            low = (LowRank.from_state(named, f"rows.{name}") for name in Compression._fields)
            compression = Compression(*low)
        heads, direct = (
            Directions.from_state(named, expert) if expert in held else None for expert in EXPERTS
        )
        fine = FineCalibration.from_state(named, "fine") if "fine" in held else None
        return cls(heads, direct, matches, compression, fine)


def _weighted(blocks: tuple[_Block, ...], weights: tuple[float, ...]) -> _Block:
    """A weighted sum of energies as one."""
    pairs = list(zip(blocks, weights, strict=True))
    w = torch.cat([math.sqrt(weight) * block.w for block, weight in pairs], dim=1)
    return _Block(w, torch.stack([weight * block.own for block, weight in pairs]).sum(0))


def _under(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in named.items()}


# The forms of energy, and the joint embeddings whose inner products or distances they are.


def search_energies(e: Embeddings, form: Form, calibration: Calibration | None) -> SearchEnergies:
    """Energies that images and texts are found by: the calibrated one depends on who asks."""
    if form == "calibrated":
        assert calibration is not None
        return calibration.search_energies(e)
    energy = cosine_energy(e) if form == "cosine" else squared_l2_energy(e)
    return SearchEnergies(energy, energy)


def joint_rows(
    modality: Modality, e: Embedded, form: Form, calibration: Calibration | None
) -> Float[Tensor, "n j"]:
    """Joint embeddings of n items, as `Embedder.encode_image` and `encode_text` give them."""
    if form == "calibrated":
        assert calibration is not None
        return calibration.rows(modality, e)
    halves = (e.embedding, e.prediction) if modality == "image" else (e.prediction, e.embedding)
    if form == "squared_l2":
        return torch.cat(halves, dim=1)
    return torch.cat([F.normalize(half, dim=1) for half in halves], dim=1) / 2**0.5


def joint_of(
    e: Embeddings, form: Form, calibration: Calibration | None
) -> tuple[Float[Tensor, "i j"], Float[Tensor, "t j"]]:
    """The same of images and of texts that were embedded together."""
    image = joint_rows("image", e.of_images, form, calibration)
    return image, joint_rows("text", e.of_texts, form, calibration)
