"""Encode a batch: what the objective compares."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from tijepa.data.features import Features, Modality
from tijepa.data.pairs import Batch
from tijepa.model.encoded import Encoded
from tijepa.model.text_image_model import Encoders, TextImageModel
from tijepa.objectives.base import Encodings, Objective, Pooled


def encode(
    model: TextImageModel,
    objective: Objective,
    batch: Batch,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    *,
    tower_threads: int = 0,
) -> Encodings:
    """Encode whole images and texts with the context encoders, and the target encoders if used.

    A frozen encoder is its own target encoder and runs once. `autocast` makes the context of each
    tower's forward pass; `tower_threads` as in `tijepa.objectives.forward.run_parallel`.
    """
    grad = torch.is_grad_enabled()

    def tower(modality: Modality) -> tuple[Encoded, Encoded | None]:
        encoder = model.context.image if modality == "image" else model.context.text
        with autocast(), torch.set_grad_enabled(grad):
            own = encode_modality(model.context, modality, *batch.inputs(modality))
            if not objective.needs_targets:
                return own, None
            if encoder.frozen:
                return own, own
            assert model.target is not None
            with torch.no_grad():
                return own, encode_modality(model.target, modality, *batch.inputs(modality))

    (own_image, image_target), (own_text, text_target) = run_parallel(
        lambda: tower("image"), lambda: tower("text"), threads=tower_threads
    )
    return Encodings(own_image, own_text, image_target, text_target)


def encode_modality(encoders: Encoders, modality: Modality, *inputs: Tensor | Features) -> Encoded:
    """Whole items by the encoder of their modality: the one way to run it, whoever asks.

    Inputs are images (b, 3, s, s), token ids (b, l) and their mask (b, l), or in the place of
    either the features that the encoder gave earlier.
    """
    encoder = encoders.image if modality == "image" else encoders.text
    if isinstance(inputs[0], Features):
        return _encoded(inputs[0], encoder.width)
    encoded: Encoded = encoder(*inputs)
    return encoded


def _encoded(features: Features, width: int) -> Encoded:
    """Features as an encoder returns them; without tokens where pooled ones alone are kept."""
    pooled, tokens, mask = features.pooled, features.tokens, features.mask
    if tokens is None or mask is None:
        tokens = pooled.new_zeros(len(pooled), 0, width)
        mask = torch.zeros(len(pooled), 0, dtype=torch.bool, device=pooled.device)
    position = torch.arange(tokens.shape[1], device=pooled.device).expand(len(pooled), -1)
    return Encoded(tokens=tokens, position=position, mask=mask, pooled=pooled)


def cut(encodings: Encodings) -> Encodings:
    """The same encodings as leaves: a backward pass ends at them and leaves its gradient there."""

    def leaf(encoded: Encoded) -> Encoded:
        return replace(
            encoded,
            tokens=encoded.tokens.detach().requires_grad_(),
            pooled=encoded.pooled.detach().requires_grad_(),
        )

    return replace(encodings, image=leaf(encodings.image), text=leaf(encodings.text))


def backward(encodings: Encodings, leaves: Encodings, *, tower_threads: int = 0) -> None:
    """Carry the gradient left at `leaves` = `cut(encodings)` on into both towers.

    A frozen encoder takes none.
    """

    def tower(encoded: Encoded, leaf: Encoded) -> None:
        grads = [
            (own, end.grad)
            for own, end in ((encoded.tokens, leaf.tokens), (encoded.pooled, leaf.pooled))
            if end.grad is not None and own.requires_grad
        ]
        if grads:
            torch.autograd.backward([own for own, _ in grads], [grad for _, grad in grads])

    run_parallel(
        lambda: tower(encodings.image, leaves.image),
        lambda: tower(encodings.text, leaves.text),
        threads=tower_threads,
    )


def pooled_of(encodings: list[Encodings], batch: Batch) -> Pooled:
    """Pooled tokens of all micro-batches of `batch`, end to end."""
    target_image = [v.target_image.pooled for v in encodings if v.target_image is not None]
    target_text = [v.target_text.pooled for v in encodings if v.target_text is not None]
    return Pooled(
        image=torch.cat([v.image.pooled for v in encodings]),
        text=torch.cat([v.text.pooled for v in encodings]),
        target_image=torch.cat(target_image) if target_image else None,
        target_text=torch.cat(target_text) if target_text else None,
        has_image=batch.contents.has_image,
        has_text=batch.contents.has_text,
    )


# Both towers at once: on a CPU, two encoders on half the cores each beat one after the other.
#
# The towers meet only in what the objective compares, so their forward and backward passes do not
# depend on each other. Results are those of one after the other.


A = TypeVar("A")
B = TypeVar("B")


def run_parallel(first: Callable[[], A], second: Callable[[], B], *, threads: int) -> tuple[A, B]:
    """The results of both, at once on `threads` threads of torch each; 0 runs one after the other.

    Grad mode and autocast belong to a thread: whoever needs them enters them inside. An error of
    either is raised after both have ended.
    """
    if not threads:
        return first(), second()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    other = _pool(threads).submit(second)
    try:
        mine = first()
    finally:
        other.exception()  # waits, raises nothing
        torch.set_num_threads(before)
    return mine, other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        1, "tijepa-tower", initializer=torch.set_num_threads, initargs=(threads,)
    )
