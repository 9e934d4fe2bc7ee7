"""What a run would be, without running it: parameters, memory and time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tijepa.config import RunConfig
from tijepa.config.objectives import token_weights
from tijepa.data.features import Features
from tijepa.data.pairs import Batch, PairSplits
from tijepa.io.formatting import duration
from tijepa.io.progress import SILENT
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone
from tijepa.model.text_image_model import TextImageModel
from tijepa.runs.record import open_run_data
from tijepa.training.backbones import adopted, cached_modalities, tokenizer_of
from tijepa.training.build import (
    build_model,
    build_objective,
    build_run_optimizer,
    build_schedule,
    needs_text,
    parameter_counts,
    resolve_compute,
)
from tijepa.training.step import training_step

MEASURED_STEPS = 3


@dataclass(frozen=True)
class DryRun:
    """The resolved configuration and what it costs on this machine.

    `data` describes the splits; `memory` are bytes of weights, gradients, moments and targets;
    `activations` the bytes that one backward pass keeps; `seconds` the whole run without data
    loading and evaluation.
    """

    config: RunConfig
    data: str
    parameters: dict[str, int]
    memory: int
    activations: int
    seconds: float
    device: str
    precision: str

    def to_text(self) -> str:
        """For a person, in YAML's comments and YAML."""
        total = sum(self.parameters.values())
        lines = [
            self.config.to_yaml().rstrip(),
            "",
            f"# data        {self.data}",
            f"# parameters  {total:,} trained: "
            + ", ".join(f"{name} {count:,}" for name, count in self.parameters.items()),
            f"# memory      {_size(self.memory)} weights, gradients, moments, targets + "
            f"{_size(self.activations)} activations",
            f"# time        {self._time()}",
        ]
        return "\n".join(lines)

    def _time(self) -> str:
        steps = build_schedule(self.config).steps
        if not steps:
            return "one pass over the cached features, without steps"
        return (
            f"{duration(self.seconds)} for {steps} steps on {self.device} in {self.precision}"
            f" ({MEASURED_STEPS} steps of random data measured)"
        )


def dry_run(config: RunConfig) -> DryRun:
    """Open the data, build the model, run a few steps on random data, and say what a run costs.

    The data are needed for the vocabulary, and so for the number of parameters. Writes nothing,
    except that a source that is not a store is prepared into the cache. Raises `DataError` where
    the data cannot be used.
    """
    config = adopted(config)
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    compute = resolve_compute(config)  # which shares the threads out
    splits = open_run_data(config, None, SILENT)
    tokenizer = tokenizer_of(config, splits.split("train"), needs_text=needs_text(config.objective))
    model = build_model(config, tokenizer.vocab_size).to(compute.device)
    objective = build_objective(config, grid=model.context.image.grid).to(compute.device)
    optimizer = build_run_optimizer(config, model, objective)
    schedule = build_schedule(config)
    batch = _with_features(_random_batch(config, tokenizer.vocab_size), config, splits, model)
    batch = batch.to(compute.device)
    meter = _Meter({p.untyped_storage().data_ptr() for p in model.parameters()})

    def step(number: int) -> None:
        training_step(
            model,
            objective,
            optimizer,
            batch,
            schedule.at(number),
            seed=(config.seed, number, 0),
            compute=compute,
            accumulate=config.optim.accumulate,
            clip_norm=config.optim.clip_norm,
        )

    with torch.autograd.graph.saved_tensors_hooks(meter.keep, lambda kept: kept.tensor):
        step(0)
    seconds = []
    for number in range(1, MEASURED_STEPS + 1):
        start = time.perf_counter()
        step(number)
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    counts = parameter_counts(model)
    # a target shares the weights that its context encoder does not train
    storages = [tensor.untyped_storage() for tensor in model.state_dict().values()]
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    moving = 3 * 4 * sum(counts.values())  # a gradient and two moments, all float32
    return DryRun(
        config=config,
        data=_describe(splits),
        parameters=counts,
        memory=held + moving,
        activations=meter.peak,
        seconds=sorted(seconds)[len(seconds) // 2] * schedule.steps,
        device=str(compute.device),
        precision=str(compute.precision).removeprefix("torch."),
    )


class _Meter:
    """Peak bytes of what autograd keeps at once; a storage counts once, `ignored` ones never."""

    def __init__(self, ignored: set[int]) -> None:
        self.peak = 0
        self._ignored = ignored
        self._current = 0
        self._holders: Counter[int] = Counter()  # by address, which is one storage's while it lives

    def keep(self, tensor: Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        pointer = storage.data_ptr()
        if pointer not in self._ignored:
            if not self._holders[pointer]:
                self._current += storage.nbytes()
                self.peak = max(self.peak, self._current)
            self._holders[pointer] += 1
        return _Kept(self, tensor)

    def release(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        pointer = storage.data_ptr()
        if pointer not in self._ignored:
            self._holders[pointer] -= 1
            if not self._holders[pointer]:
                self._current -= storage.nbytes()


class _Kept:
    """A tensor that autograd keeps until it drops this."""

    def __init__(self, meter: _Meter, tensor: Tensor) -> None:
        self.tensor = tensor
        self._meter = meter

    def __del__(self) -> None:
        self._meter.release(self.tensor)


def _random_batch(config: RunConfig, vocab_size: int) -> Batch:
    """As many pairs as a batch has, with captions of the longest length: an upper bound."""
    b, size, length = config.optim.batch_size, config.data.image_size, config.data.max_tokens
    generator = torch.Generator().manual_seed(0)
    every = torch.ones(b, dtype=torch.bool)
    return Batch(
        images=torch.rand(b, 3, size, size, generator=generator) * 2 - 1,
        has_image=every,
        tokens=torch.randint(3, vocab_size, (b, length), generator=generator),
        token_mask=torch.ones(b, length, dtype=torch.bool),
        has_text=every,
        indices=torch.arange(b),
        cursor=0,
    )


def _with_features(
    batch: Batch, config: RunConfig, splits: PairSplits, model: TextImageModel
) -> Batch:
    """Random features in the place of what frozen encoders would be asked for once alone."""
    reasons = cached_modalities(config, splits.split("train"))
    kept = {name for name, reason in reasons.items() if reason is None}
    tokens = bool(token_weights(config.objective))

    def features(part: ImageBackbone | TextBackbone, count: int) -> Features:
        pooled = torch.randn(len(batch), part.pooled_width)
        if not tokens:
            return Features(pooled)
        mask = torch.ones(len(batch), count, dtype=torch.bool)
        return Features(pooled, torch.randn(len(batch), count, part.width), mask)

    image, text = model.context.image, model.context.text
    if "image" in kept:
        assert isinstance(image, ImageBackbone)
        own = features(image, image.patches)
        batch = replace(batch, images=batch.images[:, :, :0, :0], image_features=own)
    if "text" in kept:
        assert isinstance(text, TextBackbone)
        batch = replace(batch, text_features=features(text, config.data.max_tokens))
    return batch


def _describe(splits: PairSplits) -> str:
    items = ", ".join(f"{name} {len(source):,}" for name, source in splits.splits.items())
    return f"{splits.description}: {items}"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
