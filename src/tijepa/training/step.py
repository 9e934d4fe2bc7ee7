"""One optimizer step: one batch in, one update out. This is the method.

Context encoders see what is visible, target encoders see everything without gradient, the
objective compares; backward, clip, finite check, update, EMA, in that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Counts, DrawnMasks, Encodings, Objective, ObjectiveOutput
from tijepa.objectives.forward import backward, cut, encode, pooled_of
from tijepa.training.optimizer import ScheduleValues, set_schedules


@dataclass(frozen=True)
class Compute:
    """The device, the precision of the forward pass, and how many threads each tower has.

    With `tower_threads` 0 the towers run one after the other on all threads.
    """

    device: torch.device
    precision: torch.dtype
    tower_threads: int = 0

    def autocast(self) -> torch.autocast:
        """Autocast to bf16, or a context that does nothing in float32."""
        enabled = self.precision is torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass(frozen=True)
class StepOutput:
    """What a step tells: tensors that stay on the device until somebody wants to read them."""

    loss: Tensor
    grad_norm: Tensor
    finite: Bool[Tensor, ""]
    terms: dict[str, Tensor]


def training_step(
    model: TextImageModel,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rates: ScheduleValues,
    *,
    seed: tuple[int, ...],
    compute: Compute,
    accumulate: int = 1,
    clip_norm: float = 1.0,
) -> StepOutput:
    """Update the model once.

    `seed` (run, step, rank) determines masks and random directions. With `accumulate` > 1 the
    gradient is that of the whole batch: a first pass without gradient collects the pooled tokens,
    the batch terms are differentiated with respect to them, and each micro-batch is then encoded
    again and receives its share (the chain rule cut at the pooled tokens; GradCache, arXiv
    2101.06983).

    The host reads nothing from the device: what the rows hold it knows (`Batch.contents`). Where
    the loss or the gradient is not finite the device updates no weight, only the running statistics
    of heads, target norms and covariances have moved, and the output says so. An optimizer that
    cannot be told to skip on the device (all but the fused ones of torch) costs one read a step.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    masks = objective.draw_masks(batch, model.context.image.grid, rng)
    counts = Counts.of(batch)
    optimizer.zero_grad(set_to_none=True)
    if accumulate == 1:
        encodings = encode(
            model, objective, batch, compute.autocast, tower_threads=compute.tower_threads
        )
        leaves = cut(encodings)
        whole = objective.batch_terms(model, pooled_of([leaves], batch), generator)
        parts = _item_terms(model, objective, batch, leaves, masks, counts, compute)
        terms = _add(whole, parts)
        if terms.loss.requires_grad:
            terms.loss.backward()  # type: ignore[no-untyped-call]
            backward(encodings, leaves, tower_threads=compute.tower_threads)
    else:
        terms = _accumulated(model, objective, batch, masks, counts, generator, compute, accumulate)

    trained = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = nn.utils.clip_grad_norm_(trained, clip_norm)
    set_schedules(optimizer, lr=rates.lr, weight_decay=rates.weight_decay)
    finite = torch.isfinite(terms.loss) & torch.isfinite(grad_norm)
    _update(optimizer, finite)
    model.update_targets(rates.ema_momentum, finite)
    return StepOutput(terms.loss.detach(), grad_norm, finite, terms.readings)


def _update(optimizer: torch.optim.Optimizer, finite: Bool[Tensor, ""]) -> None:
    """Step the optimizer where the update is `finite`, as a gradient scaler tells it to."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        vars(optimizer).update(grad_scale=None, found_inf=(~finite).float())
        optimizer.step()
    elif bool(finite):
        optimizer.step()


def _accumulated(
    model: TextImageModel,
    objective: Objective,
    batch: Batch,
    masks: DrawnMasks,
    counts: Counts,
    generator: torch.Generator,
    compute: Compute,
    accumulate: int,
) -> ObjectiveOutput:
    size = len(batch) // accumulate
    bounds = [(start, start + size) for start in range(0, len(batch), size)]
    terms = ObjectiveOutput(torch.zeros((), device=batch.images.device), {})
    pooled = None
    if objective.needs_pooled:
        with torch.no_grad(), compute.autocast():
            encodings = [encode(model, objective, batch.part(*bound)) for bound in bounds]
        pooled = pooled_of(encodings, batch)
        del encodings
        pooled.image.requires_grad_()
        pooled.text.requires_grad_()
        terms = objective.batch_terms(model, pooled, generator)
        if terms.loss.requires_grad:
            terms.loss.backward()  # type: ignore[no-untyped-call]
        terms = ObjectiveOutput(terms.loss.detach(), terms.readings)
    for start, stop in bounds:
        part = batch.part(start, stop)
        with compute.autocast():
            encoded = encode(model, objective, part)
        share = encoded.image.pooled.new_zeros(())
        if pooled is not None:
            sides = ((encoded.image.pooled, pooled.image), (encoded.text.pooled, pooled.text))
            for tokens, whole in sides:
                if whole.grad is not None:
                    share = share + (tokens * whole.grad[start:stop]).sum()
        items = _item_terms(
            model, objective, part, encoded, masks.part(start, stop), counts, compute
        )
        if items is not None:
            share = share + items.loss
        if share.requires_grad:
            share.backward()  # type: ignore[no-untyped-call]
        if items is not None:
            terms = _add(terms, ObjectiveOutput(items.loss.detach(), items.readings))
    return terms


def _item_terms(
    model: TextImageModel,
    objective: Objective,
    batch: Batch,
    encodings: Encodings,
    masks: DrawnMasks,
    counts: Counts,
    compute: Compute,
) -> ObjectiveOutput | None:
    with compute.autocast():
        return objective.item_terms(model, batch, encodings, masks, counts)


def _add(first: ObjectiveOutput, second: ObjectiveOutput | None) -> ObjectiveOutput:
    """Add losses, and readings of the same name."""
    if second is None:
        return first
    readings = dict(first.readings)
    for name, value in second.readings.items():
        readings[name] = readings[name] + value if name in readings else value
    return ObjectiveOutput(first.loss + second.loss, readings)
