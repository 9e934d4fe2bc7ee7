"""Fine energy of a pair: word by word, what the image adds to what the other words foretell.

Of word k of a text the token-level predictor g knows the image and the other words, or the other
words alone; t is the word's own target, the layer-normed token of the whole text (the task
`text_infill`, and `text_only` without the image). Residuals t − g of held-out pairs are fitted by
Gaussians, N(μ, Σ) with the image and N(ν, Τ) without it, and

    E_k = −log N(t − g(image, others); μ, Σ) + log N(t − g(others); ν, Τ),

the negative pointwise mutual information of word and image given the other words, in nats. The fine
energy of a pair is the sum over the words of the text: as a pseudo-likelihood (Besag 1975) scores a
sentence by one word at a time, here without a softmax over a vocabulary. What other words foretell
as well as the image does counts nothing: a likely wording is no better than an unlikely one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.data.features import Features
from tijepa.data.tokenizer import Tokenizer, Tokens
from tijepa.errors import ConfigError
from tijepa.inference.inputs import Images, Texts, image_inputs, image_list, text_list
from tijepa.model.encoded import Encoded, TokenSubset
from tijepa.model.predictors import TokenPredictor
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.forward import encode_modality

SHRINKAGE = 0.05  # of the residuals' covariances towards their mean variance
_TOKENS = 1 << 16  # that the predictor reads at once: about 100 MB of activations at width 128


@dataclass(frozen=True)
class HiddenWords:
    """A text without each of its w words in turn, their targets, and what foretells them alone.

    `index` is where in the text each word stands.
    """

    context: Encoded
    index: Int[Tensor, "w 1"]
    target: Float[Tensor, "w d"]
    alone: Float[Tensor, "w d"]

    def __len__(self) -> int:
        """Number of words."""
        return len(self.index)


@dataclass(frozen=True)
class Gaussian:
    """Mean, whitening W with Wᵀ W = Σ⁻¹, and ½ log |Σ| of residuals."""

    mean: Float[Tensor, " d"]
    whiten: Float[Tensor, "d d"]
    half_log_det: Float[Tensor, ""]

    @classmethod
    def fit(cls, residuals: Float[Tensor, "n d"]) -> Gaussian:
        """Of residuals; their covariance is drawn a little towards a multiple of the identity."""
        r = residuals.double()
        mean = r.mean(dim=0)
        covariance = torch.cov((r - mean).T, correction=0)
        typical = covariance.diagonal().mean().clamp(min=1e-12)
        eye = torch.eye(len(mean), dtype=r.dtype)
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * typical * eye
        values, vectors = torch.linalg.eigh(covariance)
        whiten = (vectors / values.sqrt()).T
        return cls(mean, whiten, values.log().sum() / 2)

    def surprise(self, residuals: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """−log N of each but for the constant that both Gaussians share, float64."""
        whitened = (residuals.double() - self.mean) @ self.whiten.T
        return whitened.square().sum(dim=1) / 2 + self.half_log_det


@dataclass(frozen=True)
class FineCalibration:
    """The Gaussians of a word's residuals, with the image and without it."""

    seen: Gaussian
    alone: Gaussian

    def energy(
        self, residual: Float[Tensor, "n d"], alone: Float[Tensor, "n d"]
    ) -> Float[Tensor, " n"]:
        """E_k of n words, from both residuals of each."""
        return self.seen.surprise(residual) - self.alone.surprise(alone)

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        fields = Gaussian.__dataclass_fields__
        return {
            f"{name}.{field}": getattr(getattr(self, name), field)
            for name in type(self).__dataclass_fields__
            for field in fields
        }

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> FineCalibration:
        """The inverse of `state`, of what stands under `prefix`; `KeyError` for what is missing."""
        fields = Gaussian.__dataclass_fields__
        parts = {
            name: {field: named[f"{prefix}.{name}.{field}"].double() for field in fields}
            for name in cls.__dataclass_fields__
        }
        return cls(**{name: Gaussian(**part) for name, part in parts.items()})


@dataclass(frozen=True)
class WordEnergies:
    """The words of one text, and the fine energy of each with i images, in nats; low = it fits."""

    words: list[str]
    energy: Float[Tensor, "i w"]


class FineScorer:
    """The fine energy of a model whose token-level predictor foretells words.

    An image is encoded once, and so is a text without each of its words; a pair then costs one pass
    of the predictor for every word.
    """

    def __init__(
        self,
        model: TextImageModel,
        tokenizer: Tokenizer,
        card: ModelCard,
        calibration: FineCalibration | None,
    ) -> None:
        if model.predictors is None or model.predictors.tokens is None or calibration is None:
            raise ConfigError(
                "form 'fine' needs a token-level predictor that foretells words: train with"
                " objective.tasks.text_infill and objective.tasks.text_only above 0"
            )
        self.model, self.tokenizer, self.card = model, tokenizer, card
        self.calibration = calibration

    def energy(self, images: Images, texts: Texts) -> Float[Tensor, "i t"]:
        """Of every image with every text: the sum over its words, in nats; low = compatible.

        Images and texts as for `Embedder.encode_image` and `encode_text`; `DataError` likewise.
        """
        return self.energy_of_inputs(self._inputs(images), text_list(texts))

    def energy_of_inputs(
        self, images: Float[Tensor, "i 3 s s"] | Features, texts: Sequence[str]
    ) -> Float[Tensor, "i t"]:
        """The same for images that are cropped and normalised already, or encoded."""
        encoded = encoded_image(self.model, images)
        found = [
            word_energies(self.model, encoded, hidden, self.calibration).sum(dim=1)
            for hidden in hide_words(self.model, self.tokenizer, texts, self.card.max_tokens)
        ]
        return torch.stack(found, dim=1).float() if found else torch.zeros(len(images), 0)

    def wording(self, texts: Sequence[str]) -> Float[Tensor, " t"]:
        """How unlikely the words of each text are by its other words, in nats: no image is read."""
        by = self.calibration.alone
        hidden = hide_words(self.model, self.tokenizer, texts, self.card.max_tokens)
        return torch.stack([by.surprise((h.target - h.alone).cpu()).sum() for h in hidden]).float()

    def words(self, images: Images, text: str) -> WordEnergies:
        """Which words of the text fit each image; those beyond the model's `max_tokens` are cut."""
        encoded = encoded_image(self.model, self._inputs(images))
        max_tokens = self.card.max_tokens
        (hidden,) = hide_words(self.model, self.tokenizer, text_list(text), max_tokens)
        energy = word_energies(self.model, encoded, hidden, self.calibration)
        pieces = self.tokenizer.words(text, max_tokens)
        whole = sorted({piece.word for piece in pieces if piece is not None})
        of = torch.tensor([whole.index(piece.word) for piece in pieces if piece is not None])
        summed = torch.zeros(len(energy), len(whole), dtype=energy.dtype)
        summed.index_add_(1, of, energy)
        spans = [[p for p in pieces if p is not None and p.word == word] for word in whole]
        return WordEnergies(
            [text[min(p.start for p in own) : max(p.end for p in own)] for own in spans],
            summed.float(),
        )

    def _inputs(self, images: Images) -> Float[Tensor, "i 3 s s"]:
        listed = image_list(images)
        return image_inputs(listed, slice(0, len(listed)), self.card)


@torch.no_grad()
def encoded_image(model: TextImageModel, images: Float[Tensor, "i 3 s s"] | Features) -> Encoded:
    """The image tokens that words are foretold from, on the model's device."""
    model.eval()
    place = next(model.parameters()).device
    return encode_modality(model.context, "image", images.to(place))


def hide_words(
    model: TextImageModel, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> Iterator[HiddenWords]:
    """Each text without each of its words, special tokens always there."""
    for text in texts:
        tokens = tokenizer.encode([text], max_tokens)
        words = [piece is not None for piece in tokenizer.words(text, max_tokens)]
        yield _hidden(model, tokens, torch.tensor(words).nonzero())


@torch.no_grad()
def _hidden(model: TextImageModel, tokens: Tokens, index: Int[Tensor, "w 1"]) -> HiddenWords:
    """One text without each of the tokens at `index`."""
    predictor = _predictor(model.eval())
    place = next(model.parameters()).device
    ids, mask, index = tokens.ids.to(place), tokens.mask.to(place), index.to(place)
    whole = model.context.text(ids, mask)
    targets = F.layer_norm(whole.tokens, whole.tokens.shape[-1:])[0]
    count, length = len(index), ids.shape[1]
    every = torch.arange(length, device=place).expand(count, -1)
    others = every[every != index].view(count, length - 1)
    visible = TokenSubset(others, torch.ones_like(others, dtype=torch.bool))
    context = model.context.text(ids.expand(count, -1), mask.expand(count, -1), visible)
    shown = torch.ones_like(index, dtype=torch.bool)
    alone = predictor([("text", context)], "text", index, shown)[:, 0]
    return HiddenWords(context, index, targets[index[:, 0]], alone.float())


@torch.no_grad()
def foretold(model: TextImageModel, image: Encoded, text: HiddenWords) -> Float[Tensor, "i w d"]:
    """Each word of the text, foretold from each of i images and the other words."""
    predictor, w = _predictor(model), len(text)
    n = image.tokens.shape[1] + text.context.tokens.shape[1] + 1
    at_once = max(1, _TOKENS // (n * max(1, w)))
    found = []
    for start in range(0, len(image.tokens), at_once):
        part = slice(start, start + at_once)
        some = Encoded(*(x[part] for x in _parts(image)))
        i = len(some.tokens)
        images = Encoded(*(x.repeat_interleave(w, dim=0) for x in _parts(some)))
        texts = Encoded(*(x.repeat(i, *[1] * (x.ndim - 1)) for x in _parts(text.context)))
        index = text.index.repeat(i, 1)
        shown = torch.ones_like(index, dtype=torch.bool)
        out = predictor([("image", images), ("text", texts)], "text", index, shown)
        found.append(out[:, 0].float().view(i, w, -1))
    return torch.cat(found)


def word_energies(
    model: TextImageModel, image: Encoded, text: HiddenWords, calibration: FineCalibration
) -> Float[Tensor, "i w"]:
    """E_k of every word of one text with each of i images, float64 on the CPU."""
    seen = (text.target - foretold(model, image, text)).cpu()
    alone = (text.target - text.alone).cpu()
    i, w, d = seen.shape
    surprise = calibration.seen.surprise(seen.reshape(i * w, d)).view(i, w)
    return surprise - calibration.alone.surprise(alone)


def fit_fine(
    model: TextImageModel,
    tokenizer: Tokenizer,
    max_tokens: int,
    images: Float[Tensor, "n 3 s s"] | Features,
    texts: Sequence[str],
) -> FineCalibration:
    """Fitted on n matched pairs, image k with text k."""
    seen, alone = [], []
    for k, text in enumerate(hide_words(model, tokenizer, texts, max_tokens)):
        image = encoded_image(model, _rows(images, slice(k, k + 1)))
        seen.append((text.target - foretold(model, image, text)[0]).cpu())
        alone.append((text.target - text.alone).cpu())
    return FineCalibration(Gaussian.fit(torch.cat(seen)), Gaussian.fit(torch.cat(alone)))


def _predictor(model: TextImageModel) -> TokenPredictor:
    assert model.predictors is not None
    assert model.predictors.tokens is not None
    return model.predictors.tokens


def _rows(inputs: Tensor | Features, part: slice) -> Tensor | Features:
    return inputs[part] if isinstance(inputs, Tensor) else inputs.rows(part)


def _parts(encoded: Encoded) -> tuple[Tensor, ...]:
    return encoded.tokens, encoded.position, encoded.mask, encoded.pooled
