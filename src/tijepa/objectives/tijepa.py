"""The TI-JEPA objective: a weighted list of tasks, one energy, targets, a regularizer per modality.

No negatives anywhere: the energy of a pair depends on that pair alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.data.pairs import Batch
from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import (
    TASKS,
    Counts,
    DrawnMasks,
    Encodings,
    Objective,
    ObjectiveOutput,
    Pooled,
    Task,
    index_of,
    long_texts,
)
from tijepa.objectives.distributed import Distributed
from tijepa.objectives.energies import ByPrediction, Energy, PooledEnergy
from tijepa.objectives.fused import fused_energy
from tijepa.objectives.masks import BlockMasks, Masks, SpanMasks
from tijepa.objectives.regularizers import Regularizer
from tijepa.registry import register


@dataclass(frozen=True)
class WeightedRegularizer:
    """A regularizer and its weight λ in the loss."""

    penalty: Regularizer
    weight: float


@register("objective", "tijepa")
class TIJEPAObjective(Objective):
    """Σ_task w · E(g_φ(context), sg(target)) + Σ_modality λ · R(z).

    `pooled` holds the weights of the pooled energies of `text_to_image` and `image_to_text`,
    `tokens` those of the token-level energies of all tasks; a task that is not named is not run.
    `ema_pooled` and `ema_tokens` choose the target encoders' (EMA) outputs as targets instead of
    the stop-gradient of the context encoders' own; a fused target is always an EMA target.
    `pooled_energy` compares pooled predictions with their targets, by `energy` unless it says
    otherwise. Pooled targets pass through the model's norm, whose statistics are those of the batch
    in all `processes`.
    """

    def __init__(
        self,
        *,
        pooled: Mapping[str, float],
        tokens: Mapping[str, float],
        energy: Energy,
        pooled_energy: PooledEnergy | None = None,
        ema_pooled: bool,
        ema_tokens: bool,
        block_masks: BlockMasks | None = None,
        span_masks: SpanMasks | None = None,
        regularize_image: WeightedRegularizer | None = None,
        regularize_text: WeightedRegularizer | None = None,
        processes: Distributed | None = None,
    ) -> None:
        super().__init__(processes)
        assert set(pooled) <= {"text_to_image", "image_to_text"}, pooled
        assert set(tokens) <= set(TASKS), tokens
        self.pooled_weights = dict(pooled)
        self.token_weights = dict(tokens)
        self.energy = energy
        self.pooled_energy = pooled_energy or ByPrediction(energy)
        self.ema_pooled = ema_pooled
        self.ema_tokens = ema_tokens
        self.block_masks = block_masks
        self.span_masks = span_masks
        self.regularizers = {"image": regularize_image, "text": regularize_text}
        fused = any(TASKS[name].fused for name in tokens)
        plain = any(not TASKS[name].fused for name in tokens)
        # tasks of one modality also move the heads' running statistics, by which the guard sees it
        self.needs_pooled = bool(pooled) or plain or any(self.regularizers.values())
        self.needs_targets = (ema_pooled and bool(pooled)) or (ema_tokens and plain) or fused

    def draw_masks(self, batch: Batch, grid: int, rng: np.random.Generator) -> DrawnMasks:
        """Masks for the modalities that some task hides a part of."""
        hiding = [TASKS[name] for name in self.token_weights if TASKS[name].hides]
        image = text = None
        if any(task.predicts == "image" for task in hiding):
            assert self.block_masks is not None
            image = self.block_masks.draw(len(batch), rng).to(batch.images.device)
        if any(task.predicts == "text" for task in hiding):
            assert self.span_masks is not None
            lengths = batch.contents.lengths.tolist()
            text = self.span_masks.draw(lengths, rng).to(batch.images.device)
        return DrawnMasks(image, text)

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """Pooled energies of the pairs and the regularizers of each modality."""
        assert model.predictors is not None
        if not self.needs_pooled:
            return ObjectiveOutput(pooled.image.new_zeros(()), {})
        pooled = _without_lone_items(pooled)
        with_image, with_text = pooled.has_image, pooled.has_text
        image = model.context.embed_image(pooled.image[index_of(with_image, pooled.image)])
        text = model.context.embed_text(pooled.text[index_of(with_text, pooled.text)])
        paired_image = index_of(with_text[with_image], pooled.image)
        paired_text = index_of(with_image[with_text], pooled.text)
        loss = image.new_zeros(())
        readings: dict[str, Tensor] = {}
        if len(paired_image) > 1:
            for name, weight in self.pooled_weights.items():
                if name == "text_to_image":
                    predictor, context = model.predictors.text_to_image, text[paired_text]
                    target = self._pooled_target(model, image, pooled, "image")[paired_image]
                else:
                    predictor, context = model.predictors.image_to_text, image[paired_image]
                    target = self._pooled_target(model, text, pooled, "text")[paired_text]
                energy = self.pooled_energy(predictor, context, target).mean()
                loss = loss + weight * energy
                readings[f"energy/{name}/pooled"] = energy.detach()
        for modality, embedding in (("image", image), ("text", text)):
            regularizer = self.regularizers[modality]
            if regularizer is not None and len(embedding) > 1:
                penalty = regularizer.penalty(embedding, generator)
                loss = loss + regularizer.weight * penalty
                readings[f"regularizer/{modality}"] = penalty.detach()
        return ObjectiveOutput(loss, readings)

    def item_terms(
        self,
        model: TextImageModel,
        batch: Batch,
        encodings: Encodings,
        masks: DrawnMasks,
        counts: Counts,
    ) -> ObjectiveOutput | None:
        """Token-level energies of all tasks that have a weight."""
        if not self.token_weights:
            return None
        contexts = self._contexts(model, batch, encodings, masks)
        loss = encodings.image.tokens.new_zeros(())
        readings: dict[str, Tensor] = {}
        for name, weight in self.token_weights.items():
            task = TASKS[name]
            usable, total = _usable(task, batch, counts)
            if total == 0:
                continue
            energy = self._token_energy(model, task, batch, contexts, encodings, masks)
            mean = (energy * usable).sum() / total
            loss = loss + weight * mean
            readings[f"energy/{name}/tokens"] = mean.detach()
        return ObjectiveOutput(loss, readings)

    def _pooled_target(
        self, model: TextImageModel, own: Tensor, pooled: Pooled, modality: str
    ) -> Float[Tensor, "b d"]:
        assert model.predictors is not None
        norm = model.predictors.image_norm if modality == "image" else model.predictors.text_norm
        with torch.no_grad():
            target: Tensor = norm(self._target(model, own, pooled, modality), self.processes.total)
        return target

    def _target(
        self, model: TextImageModel, own: Tensor, pooled: Pooled, modality: str
    ) -> Float[Tensor, "b d"]:
        if not self.ema_pooled:
            return own.detach()
        assert model.target is not None
        if modality == "image":
            assert pooled.target_image is not None
            rows = index_of(pooled.has_image, pooled.target_image)
            return model.target.embed_image(pooled.target_image[rows])
        assert pooled.target_text is not None
        rows = index_of(pooled.has_text, pooled.target_text)
        return model.target.embed_text(pooled.target_text[rows])

    def _contexts(
        self, model: TextImageModel, batch: Batch, encodings: Encodings, masks: DrawnMasks
    ) -> dict[tuple[str, str], Encoded]:
        """Every context encoding that some task reads, each computed once."""
        contexts = {("image", "all"): encodings.image, ("text", "all"): encodings.text}
        if masks.image is not None:
            contexts["image", "context"] = model.context.image(batch.images, masks.image.context)
        if masks.text is not None:
            contexts["text", "context"] = model.context.text(
                batch.tokens, batch.token_mask, masks.text.context
            )
        return contexts

    def _token_energy(
        self,
        model: TextImageModel,
        task: Task,
        batch: Batch,
        contexts: Mapping[tuple[str, str], Encoded],
        encodings: Encodings,
        masks: DrawnMasks,
    ) -> Float[Tensor, " b"]:
        """Energy of each item: the mean over its predicted tokens."""
        if task.fused:
            assert masks.image is not None
            image, text = contexts["image", "context"], contexts["text", "all"]
            return fused_energy(model, self.energy, image, text, encodings, masks.image)
        assert model.predictors is not None
        assert model.predictors.tokens is not None
        target = self._token_targets(encodings, task.predicts)
        hidden: Masks | None = None
        if task.hides:
            hidden = masks.image if task.predicts == "image" else masks.text
            assert hidden is not None
        wanted = TokenSubset(target.position, target.mask) if hidden is None else hidden.target
        context = [
            (modality, contexts[modality, seen])
            for modality, seen in (("image", task.image), ("text", task.text))
            if seen is not None
        ]
        predicted = model.predictors.tokens(context, task.predicts, wanted.index, wanted.mask)
        tokens = F.layer_norm(target.tokens, target.tokens.shape[-1:])
        per_token = self.energy(predicted.float(), gather_tokens(tokens, wanted.index))
        weight = wanted.mask.to(per_token.dtype)
        return (per_token * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)

    def _token_targets(self, encodings: Encodings, modality: str) -> Encoded:
        if self.ema_tokens:
            encoded = encodings.target_image if modality == "image" else encodings.target_text
            assert encoded is not None
            return encoded
        own = encodings.image if modality == "image" else encodings.text
        return Encoded(own.tokens.detach(), own.position, own.mask, own.pooled.detach())


def _without_lone_items(pooled: Pooled) -> Pooled:
    """A batch's only image or only text has no batch statistics: leave it out."""
    has_image = pooled.has_image & (np.count_nonzero(pooled.has_image) > 1)
    has_text = pooled.has_text & (np.count_nonzero(pooled.has_text) > 1)
    return replace(pooled, has_image=has_image, has_text=has_text)


def _usable(task: Task, batch: Batch, counts: Counts) -> tuple[Bool[Tensor, " b"], int]:
    """Which rows the task can use, and how many such rows the whole batch has."""
    if task.hides and task.predicts == "text":
        if task.needs_image:
            return batch.has_image & long_texts(batch), counts.long_pairs
        return long_texts(batch), counts.long_texts
    if task.needs_image and task.needs_text:
        return batch.has_image & batch.has_text, counts.pairs
    if task.needs_image:
        return batch.has_image, counts.images
    return batch.has_text, counts.texts
