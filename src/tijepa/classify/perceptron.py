"""A small head: one hidden layer with dropout, stopped early on held-out examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.evaluate.probes import Examples, Standard, log_loss

HIDDEN = 256
DROPOUT = 0.5
BATCH = 64
RATE = 1e-3
DECAY = 1e-2
MOST_EPOCHS = 60
PATIENCE = 6  # epochs without a lower cross-entropy


@dataclass(frozen=True)
class Perceptron:
    """Standardised features → linear → GELU → linear; `epochs` is where it was best."""

    standard: Standard
    hidden: Float[Tensor, "d h"]
    hidden_bias: Float[Tensor, " h"]
    out: Float[Tensor, "h c"]
    out_bias: Float[Tensor, " c"]
    epochs: int

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """See `tijepa.evaluate.probes.Head`."""
        x = self.standard(features).float()
        return _forward(x, (self.hidden, self.hidden_bias, self.out, self.out_bias))


def fit_perceptron(examples: Examples, *, seed: int, balanced: bool = False) -> Perceptron:
    """Fit by AdamW and keep the weights of the epoch that is best on held-out examples.

    A tenth of the examples is held out and never trained on. Start, order and dropout come from
    `seed`: the same examples give the same head on the same machine.
    """
    held = examples.held_out(seed)
    rest, unseen = examples.where(~held), examples.where(held)
    standard = Standard.of(rest.features)
    x, y = standard(rest.features).float(), standard(unseen.features).float()
    class_weights = rest.class_weights(balanced)
    weights = None if class_weights is None else class_weights.float()
    generator = torch.Generator().manual_seed(seed)
    parameters = _start(x.shape[1], examples.classes, generator)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    best, kept, epochs = torch.inf, [p.detach().clone() for p in parameters], 0
    for epoch in range(1, MOST_EPOCHS + 1):
        order = torch.randperm(len(rest), generator=generator)
        for rows in torch.split(order, BATCH):
            logits = _forward(x[rows], parameters, generator)
            loss = F.cross_entropy(logits, rest.labels[rows], weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            reached = log_loss(_forward(y, parameters), unseen.labels, class_weights)
        if reached < best:
            best, kept, epochs = reached, [p.detach().clone() for p in parameters], epoch
        elif epoch - epochs >= PATIENCE:
            break
    return Perceptron(standard, kept[0], kept[1], kept[2], kept[3], epochs)


def _start(inputs: int, classes: int, generator: torch.Generator) -> list[Tensor]:
    hidden = torch.randn(inputs, HIDDEN, generator=generator) / inputs**0.5
    out = torch.zeros(HIDDEN, classes)
    parameters = [hidden, torch.zeros(HIDDEN), out, torch.zeros(classes)]
    return [p.requires_grad_() for p in parameters]


def _forward(
    x: Tensor,
    parameters: list[Tensor] | tuple[Tensor, Tensor, Tensor, Tensor],
    dropout: torch.Generator | None = None,
) -> Tensor:
    """With a generator hidden units are dropped, and the others scaled up."""
    hidden, hidden_bias, out, out_bias = parameters
    h = F.gelu(x @ hidden + hidden_bias)
    if dropout is not None:
        kept = torch.rand(h.shape, generator=dropout) >= DROPOUT
        h = h * kept / (1 - DROPOUT)
    return h @ out + out_bias
