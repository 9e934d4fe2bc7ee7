"""Probes: what a simple classifier finds in frozen features.

Both probes choose their one setting on a held-out part of the training examples, never on what
they are judged by. Pure functions of features, without model or files in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tijepa.evaluate.scores import assign_folds, hold_out, scikit_learn

HELD_OUT = 0.1  # of the training examples, to choose a setting on
DECAYS = tuple(10 ** (k / 2) for k in range(2, -9, -1))  # 10 to 1e-4, strongest first
NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)
_TEMPERATURE = 0.07  # of the votes, as in Wu et al., arXiv 1805.01978
_NO_VOTE = 1e-3  # votes added to all classes together, so that none has probability 0
_STEPS = 2000
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Examples:
    """Features with labels 0 to classes - 1; copies of an item share a group.

    `names` are those of the classes, for messages.
    """

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    groups: Int[Tensor, " n"]
    classes: int
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: Bool[Tensor, " n"]) -> Examples:
        """The examples at which `mask` is true."""
        features, labels, groups = self.features[mask], self.labels[mask], self.groups[mask]
        return replace(self, features=features, labels=labels, groups=groups)

    def held_out(self, seed: int) -> Bool[Tensor, " n"]:
        """True at a tenth of the examples, as `hold_out` draws them; raises as it does."""
        return hold_out(self.labels, self.groups, HELD_OUT, seed, names=self.names)

    def folds(self, count: int, seed: int) -> Int[Tensor, " n"]:
        """The fold of every example, as `assign_folds` gives it; raises as it does."""
        return assign_folds(self.labels, self.groups, count, seed, names=self.names)

    def class_weights(self, balanced: bool) -> Float[Tensor, " c"] | None:
        """Weights under which all classes count the same, or None."""
        return balanced_weights(self.labels, self.classes) if balanced else None


@runtime_checkable
class Head(Protocol):
    """A fitted classifier of features."""

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Log-probabilities of the classes up to a constant of each row."""
        ...


@dataclass(frozen=True)
class Standard:
    """Features with mean 0 and standard deviation 1 over the examples it was made from."""

    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> Standard:
        """A constant feature becomes 0."""
        x = features.double()
        std = x.std(dim=0, correction=0)
        return cls(x.mean(dim=0), torch.where(std > 1e-9, std, torch.inf))

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Float64, whatever came in."""
        return (features.double() - self.mean) / self.scale


@dataclass(frozen=True)
class Linear:
    """Logistic regression on standardised features, and the weight decay that was chosen."""

    standard: Standard
    affine: Affine
    decay: float

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """See `Head`."""
        return self.affine(self.standard(features))


def fit_linear(examples: Examples, *, seed: int, balanced: bool = False) -> Linear:
    """A linear probe whose decay has the lowest cross-entropy on held-out examples.

    Decays are tried from the strongest on until two in a row are no better; then the chosen one is
    fitted to all examples.
    """
    held = examples.held_out(seed)
    rest, unseen = examples.where(~held), examples.where(held)
    standard = Standard.of(rest.features)
    x, y = standard(rest.features), standard(unseen.features)
    weights = rest.class_weights(balanced)
    best, lowest, worse = DECAYS[0], torch.inf, 0
    for decay in DECAYS:
        affine = fit_logistic(x, rest.labels, examples.classes, decay=decay, class_weights=weights)
        loss = log_loss(affine(y), unseen.labels, weights)
        worse = worse + 1 if loss >= lowest else 0
        if worse == 2:
            break
        if loss < lowest:
            best, lowest = decay, loss
    standard = Standard.of(examples.features)
    affine = fit_logistic(
        standard(examples.features),
        examples.labels,
        examples.classes,
        decay=best,
        class_weights=examples.class_weights(balanced),
    )
    return Linear(standard, affine, best)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest training examples by cosine of standardised features vote.

    A vote weighs exp(cosine / 0.07). `voters` is a fitted `sklearn.neighbors.KNeighborsClassifier`.
    """

    standard: Standard
    voters: Any

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """See `Head`."""
        share = torch.from_numpy(self.voters.predict_proba(self.standard(features).numpy()))
        return (share + _NO_VOTE / share.shape[1]).log()


def fit_neighbours(examples: Examples, *, seed: int) -> Neighbours:
    """k-nearest neighbours whose k has the lowest cross-entropy on held-out examples."""
    held = examples.held_out(seed)
    rest, unseen = examples.where(~held), examples.where(held)

    def loss(k: int) -> float:
        return log_loss(_neighbours(rest, k).logits(unseen.features), unseen.labels)

    return _neighbours(examples, min(NEIGHBOURS, key=loss))


def _neighbours(examples: Examples, k: int) -> Neighbours:
    standard = Standard.of(examples.features)
    voters = scikit_learn("neighbors").KNeighborsClassifier(
        min(k, len(examples)), weights=_votes, algorithm="brute", metric="cosine"
    )
    return Neighbours(
        standard, voters.fit(standard(examples.features).numpy(), examples.labels.numpy())
    )


def _votes(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of examples at 1 - cosine."""
    return np.exp(-distance / _TEMPERATURE)


def cross_validate(
    examples: Examples, fit: Callable[[Examples], Head], *, folds: int, seed: int
) -> Float[Tensor, "n c"]:
    """Logits of every example by the head that was fitted without its fold.

    Raises as `assign_folds` does.
    """
    fold = examples.folds(folds, seed)
    logits = torch.zeros(len(examples), examples.classes, dtype=torch.float64)
    for number in range(folds):
        head = fit(examples.where(fold != number))
        logits[fold == number] = head.logits(examples.features[fold == number]).double()
    return logits


@dataclass(frozen=True)
class Affine:
    """Logits = features · weight + bias."""

    weight: Float[Tensor, "d c"]
    bias: Float[Tensor, " c"]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Logits of every row."""
        return features.to(self.weight.dtype) @ self.weight + self.bias


def fit_logistic(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    *,
    decay: float,
    class_weights: Float[Tensor, " c"] | None = None,
) -> Affine:
    """The minimum of weighted mean cross-entropy + ½ `decay` ‖weight‖², in float64 by L-BFGS.

    Every class has to occur. The bias is not decayed. Class weights multiply an item's
    cross-entropy and the mean divides by their sum. With decay > 0 the minimum is unique up to a
    constant added to all biases; they are given with mean 0.
    """
    assert decay > 0, decay
    weights = torch.ones(len(labels)) if class_weights is None else class_weights[labels]
    # one vector w stands for the two (-w/2, w/2) of two classes, so its square counts half
    strength = decay / 2 if classes == 2 else decay
    model = scikit_learn("linear_model").LogisticRegression(
        C=1 / (strength * float(weights.double().sum())), tol=_TOLERANCE, max_iter=_STEPS
    )
    model.fit(features.double().numpy(), labels.numpy(), weights.double().numpy())
    assert len(model.classes_) == classes, "a class has no example"
    weight, bias = torch.from_numpy(model.coef_.T), torch.from_numpy(model.intercept_)
    if classes == 2:
        weight, bias = torch.cat([-weight, weight], dim=1) / 2, torch.cat([-bias, bias]) / 2
    return Affine(weight, bias - bias.mean())


def balanced_weights(labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, " c"]:
    """n / (c · items of the class), so that all classes weigh the same; 0 for one without items."""
    counts = torch.bincount(labels, minlength=classes).double()
    weights = len(labels) / (classes * counts)
    return torch.where(counts > 0, weights, 0.0)


def log_loss(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    class_weights: Float[Tensor, " c"] | None = None,
) -> float:
    """Mean cross-entropy in nats, weighted as in `fit_logistic`."""
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return float(F.cross_entropy(logits, labels, weights))


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
