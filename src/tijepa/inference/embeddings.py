"""Pooled embeddings of images and texts together with what each predicts of the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features import Modality
from tijepa.model.text_image_model import TextImageModel

Form = Literal["calibrated", "cosine", "squared_l2"]  # of the energy of pooled embeddings
PairForm = Form | Literal["fine"]  # of the energy of given pairs


@dataclass(frozen=True)
class Embedded:
    """n items of one modality: the half of `Embeddings` that `embed` makes.

    `prediction` is what each predicts of the other modality, `pooled` the context encoder's token
    before the head.
    """

    embedding: Float[Tensor, "n d"]
    prediction: Float[Tensor, "n d"]
    pooled: Float[Tensor, "n p"] | None = None

    @property
    def direct(self) -> Embedded:
        """The pooled tokens, each its own prediction."""
        assert self.pooled is not None, "pooled tokens are not known"
        return Embedded(self.pooled, self.pooled)

    def part(self, index: slice | Tensor) -> Embedded:
        """Some of the items, or all in another order."""
        return self._each(lambda x: x[index])

    def cpu(self) -> Embedded:
        """The same on the CPU."""
        return self._each(lambda x: x.cpu())

    @classmethod
    def joined(cls, parts: Sequence[Embedded]) -> Embedded:
        """The items of at least one part, in order."""
        if len(parts) == 1:
            return parts[0]
        pooled = [e.pooled for e in parts if e.pooled is not None]
        embedding = torch.cat([e.embedding for e in parts])
        same = all(e.embedding is e.prediction for e in parts)
        prediction = embedding if same else torch.cat([e.prediction for e in parts])
        return cls(embedding, prediction, torch.cat(pooled) if pooled else None)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Embedded:
        """A model that does not predict keeps one tensor for both."""
        embedding = change(self.embedding)
        same = self.prediction is self.embedding
        prediction = embedding if same else change(self.prediction)
        return Embedded(embedding, prediction, None if self.pooled is None else change(self.pooled))


@dataclass(frozen=True)
class Embeddings:
    """i images and t texts; pairs need not be aligned.

    An image's joint embedding is [z_I ; g_{I→T}(z_I)], a text's [g_{T→I}(z_T) ; z_T]: half the
    squared L2 distance of the two is the pair's energy, summed over dimensions.
    """

    image: Float[Tensor, "i d"]
    text_from_image: Float[Tensor, "i d"]
    text: Float[Tensor, "t d"]
    image_from_text: Float[Tensor, "t d"]
    image_pooled: Float[Tensor, "i p"] | None = None
    text_pooled: Float[Tensor, "t q"] | None = None

    @classmethod
    def of(cls, images: Embedded, texts: Embedded) -> Embeddings:
        """Of items of either modality."""
        own = images.embedding, images.prediction, texts.embedding, texts.prediction
        return cls(*own, images.pooled, texts.pooled)

    @property
    def of_images(self) -> Embedded:
        """The images alone."""
        return Embedded(self.image, self.text_from_image, self.image_pooled)

    @property
    def of_texts(self) -> Embedded:
        """The texts alone."""
        return Embedded(self.text, self.image_from_text, self.text_pooled)

    @property
    def joint_image(self) -> Float[Tensor, "i j"]:
        """[z_I ; g_{I→T}(z_I)], j = 2 d."""
        return torch.cat([self.image, self.text_from_image], dim=1)

    @property
    def joint_text(self) -> Float[Tensor, "t j"]:
        """[g_{T→I}(z_T) ; z_T], j = 2 d."""
        return torch.cat([self.image_from_text, self.text], dim=1)

    def images(self, index: slice | Tensor) -> Embeddings:
        """The same texts with a part of the images."""
        return Embeddings.of(self.of_images.part(index), self.of_texts)

    def texts(self, index: slice | Tensor) -> Embeddings:
        """The same images with a part of the texts."""
        return Embeddings.of(self.of_images, self.of_texts.part(index))


class SearchEnergies(NamedTuple):
    """By which images and texts are found: a form of energy may depend on who asks."""

    images: Float[Tensor, "i t"]
    texts: Float[Tensor, "i t"]

    @property
    def pair(self) -> Float[Tensor, "i t"]:
        """The energy of a pair: the mean of both."""
        return (self.images + self.texts) / 2


def squared_l2_energy(e: Embeddings) -> Float[Tensor, "i t"]:
    """½ (‖z_I − g(z_T)‖² + ‖g(z_I) − z_T‖²) / d for every image and text."""
    distance = torch.cdist(e.joint_image, e.joint_text, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square() / (2 * e.image.shape[1])


def cosine_energy(e: Embeddings) -> Float[Tensor, "i t"]:
    """½ (1 − cos(z_I, g(z_T)) + 1 − cos(g(z_I), z_T)) for every image and text, from 0 to 2."""
    to_image = F.normalize(e.image, dim=1) @ F.normalize(e.image_from_text, dim=1).T
    to_text = F.normalize(e.text_from_image, dim=1) @ F.normalize(e.text, dim=1).T
    return 1.0 - (to_image + to_text) / 2


def embed(model: TextImageModel, modality: Modality, pooled: Float[Tensor, "n p"]) -> Embedded:
    """Embeddings and predictions of n items from their context encoder's pooled tokens.

    What predictions are compared with is normalised as the targets of training were. A model
    without predictors (CLIP, SigLIP, VICReg) compares unit vectors directly: each modality's
    embedding is its own prediction of the other.
    """
    context, predictors = model.context, model.predictors
    z = context.embed_image(pooled) if modality == "image" else context.embed_text(pooled)
    if predictors is None:
        z = F.normalize(z, dim=1)
        return Embedded(z, z, pooled)
    if modality == "image":
        return Embedded(predictors.image_norm(z), predictors.image_to_text(z), pooled)
    return Embedded(predictors.text_norm(z), predictors.text_to_image(z), pooled)


def pair_features(e: Embeddings, *, predicts: bool) -> Float[Tensor, "n f"]:
    """What the embeddings say of n aligned pairs, for a classifier; row k is image k with text k.

    [z_I ; g(z_T) ; z_T ; g(z_I) ; z_I · g(z_T) ; g(z_I) · z_T], f = 6 d: both joint embeddings and
    the products, dimension by dimension, whose sums are the two cosines when rows have length 1.
    Each of the first four is brought to length √d, so that its entries are of size 1 and no part
    outweighs the others in a linear head. Of a model that does not predict (CLIP, SigLIP,
    VICReg), whose embeddings are their own predictions: [z_I ; z_T ; z_I · z_T], f = 3 d.
    """
    assert e.image.shape == e.text.shape, (e.image.shape, e.text.shape)
    size = e.image.shape[1] ** 0.5
    own = [size * F.normalize(x, dim=1) for x in (e.image, e.text)]
    if not predicts:
        return torch.cat([*own, own[0] * own[1]], dim=1)
    of_text, of_image = (
        size * F.normalize(x, dim=1) for x in (e.image_from_text, e.text_from_image)
    )
    parts = [own[0], of_text, own[1], of_image, own[0] * of_text, of_image * own[1]]
    return torch.cat(parts, dim=1)
