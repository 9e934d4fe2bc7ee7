"""Fine-tuning: encoders and head together, stopped early on held-out items.

Only the encoder that `tune` names moves, also one that the run itself kept frozen, and of it only
the last layers where `layers` says so. The model is in evaluation mode throughout: no dropout, no
new running statistics.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.classify.features import Parts, batch_features, item_features, read_inputs
from tijepa.classify.labels import Items, Side
from tijepa.errors import ConfigError
from tijepa.evaluate.probes import (
    Affine,
    Examples,
    Linear,
    Standard,
    balanced_weights,
    fit_linear,
    log_loss,
)
from tijepa.inference.embedder import Embedder
from tijepa.model.pretrained.trainable import Tuning as LayerChoice

Tune = Literal["image", "text", "both"]

BATCH = 32
HEAD_RATE = 1e-4
WARMUP = 0.1  # of the steps
CLIP = 1.0
DECAY = 0.01


@dataclass(frozen=True)
class Tuning:
    """Which encoder is tuned, how long, at which rate, how many last layers (None: all)."""

    tune: Tune
    epochs: int = 3
    lr: float = 3e-5
    layers: int | None = None


def check_tune(tune: Tune | None, side: Side) -> None:
    """Raise `ConfigError` where an encoder that is not used would be fine-tuned."""
    if tune is not None and side not in ("pair", tune):
        raise ConfigError(f"`tune={tune}` has no effect with `side={side}`: say {side}")


def fine_tune(
    embedder: Embedder,
    items: Items,
    examples: Examples,
    tuning: Tuning,
    *,
    side: Side,
    parts: Parts,
    balanced: bool,
    seed: int,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Embedder, Linear]:
    """A copy of the embedder whose encoders have learned the labels, and the head for it.

    `examples` are the items' features as they are; the head starts as the linear probe of them.
    AdamW, linear warmup, cosine to 0. Before the first and after every epoch the cross-entropy of a
    tenth of the items, which are never trained on, is taken, and the best of these states is kept.
    All randomness comes from `seed`. `advance` is called with the number of items of every batch.
    Raises `ConfigError` where an encoder has fewer layers, and as `hold_out` does.
    """
    tuned = Embedder(
        copy.deepcopy(embedder.model), embedder.tokenizer, embedder.card, None, embedder.device
    )
    held = examples.held_out(seed)
    rest, unseen = items.where((~held).tolist()), items.where(held.tolist())
    own = examples.labels[~held]
    probe = fit_linear(examples.where(~held), seed=seed, balanced=balanced)
    head = _Affine(probe)
    encoder = _trainable(tuned, tuning)
    weights = balanced_weights(own, examples.classes) if balanced else None
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "lr": tuning.lr}, {"params": head.parameters(), "lr": HEAD_RATE}],
        weight_decay=DECAY,
    )
    steps = tuning.epochs * math.ceil(len(rest) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    generator = torch.Generator().manual_seed(seed)
    moving = [*encoder, *head.parameters()]
    best, kept = torch.inf, [p.detach().clone() for p in moving]
    for epoch in range(tuning.epochs + 1):
        order = torch.randperm(len(rest) if epoch else 0, generator=generator)
        for rows in torch.split(order, BATCH) if epoch else ():
            inputs = read_inputs(tuned, rest, rows.tolist(), side)
            logits = head(batch_features(tuned, side, *inputs, parts).float().cpu())
            loss = F.cross_entropy(logits, own[rows], None if weights is None else weights.float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(moving, CLIP)
            optimizer.step()
            schedule.step()
            advance(len(rows))
        with torch.no_grad():
            logits = head(item_features(tuned, unseen, side, parts))
        reached = log_loss(logits, examples.labels[held], weights)
        if reached < best:
            best, kept = reached, [p.detach().clone() for p in moving]
    with torch.no_grad():
        for parameter, value in zip(moving, kept, strict=True):
            parameter.copy_(value)
    for own, first in zip(tuned.model.parameters(), embedder.model.parameters(), strict=True):
        own.requires_grad_(first.requires_grad)  # saving tells by it what the run froze
    return tuned, head.fitted(probe)


class _Affine(nn.Module):
    """A linear probe with its standardisation folded in, as parameters."""

    def __init__(self, probe: Linear) -> None:
        super().__init__()
        weight = probe.affine.weight / probe.standard.scale[:, None]
        self.weight = nn.Parameter(weight.float())
        self.bias = nn.Parameter((probe.affine.bias - probe.standard.mean @ weight).float())

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Logits."""
        return x @ self.weight + self.bias

    def fitted(self, probe: Linear) -> Linear:
        """As a head that standardises nothing."""
        scale = torch.ones_like(probe.standard.scale)
        affine = Affine(self.weight.detach().double(), self.bias.detach().double())
        return Linear(Standard(torch.zeros_like(scale), scale), affine, probe.decay)


def _trainable(embedder: Embedder, tuning: Tuning) -> list[nn.Parameter]:
    """Parameters of the encoders that learn; all others of the model stop learning."""
    embedder.model.requires_grad_(False).eval()
    context = embedder.model.context
    towers: list[nn.Module] = []
    if tuning.tune != "text":
        towers.append(context.image)
    if tuning.tune != "image":
        towers.append(context.text)
    for tower in towers:
        if tuning.layers is None:
            tower.requires_grad_(True)
        else:
            LayerChoice("last_k", tuning.layers).apply(tower)
    return [p for p in embedder.model.parameters() if p.requires_grad]


def _rate(step: int, steps: int) -> float:
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
