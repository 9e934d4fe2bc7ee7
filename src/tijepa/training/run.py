"""A run from beginning to end: open data, build, train, evaluate, report."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tijepa.config import RunConfig
from tijepa.data.batches.loader import Loader
from tijepa.data.features import SplitFeatures
from tijepa.data.pairs import PairSplits, Rejected, rejected_file
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CollapseError, ConfigError, DataError
from tijepa.evaluate.forgetting import compares_projections
from tijepa.evaluate.measure import (
    EvaluationSet,
    calibration_pairs,
    evaluation_set,
    solve_closed_form,
)
from tijepa.inference.embedder import Embedder
from tijepa.io.files import write_whole, writing
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import ModelCard, read_card, write_json
from tijepa.model.text_image_model import TextImageModel
from tijepa.registry import part as registered
from tijepa.runs.evaluation import final_split, finish_run
from tijepa.runs.record import open_run_data
from tijepa.training.backbones import adopted, feature_cache_of, split_features, tokenizer_of
from tijepa.training.build import (
    build_model,
    build_objective,
    build_run_optimizer,
    build_schedule,
    model_arguments,
    needs_text,
    parameter_counts,
    resolve_compute,
    resumed_model,
)
from tijepa.training.callbacks import Callback
from tijepa.training.checkpoint import Checkpoints, RunState
from tijepa.training.evaluation import HeldOut
from tijepa.training.guard import build_guard
from tijepa.training.loop import Trainer, check_vacant
from tijepa.version import __version__


def train(
    config: RunConfig,
    run_dir: Path,
    *,
    resume: bool = False,
    reporter: Reporter = SILENT,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train one model into `run_dir` and return that folder.

    With `resume`, continue from the last checkpoint there, to the same losses as a run that was
    never interrupted (bit for bit on a CPU). At the end the model is evaluated on the test split
    and a report is written. The folder is not touched before the data are open and the model is
    built. Up to `data.eval_items` + 2,048 decoded images stay in memory for the evaluations while
    training, 12 × image_size² bytes each. Where the collapse guard stops the run, the report is
    written before `CollapseError` is raised. Raises the errors of `tijepa.errors`;
    `KeyboardInterrupt` after Ctrl-C, with everything saved.
    """
    chosen = {"tensorboard": config.log.tensorboard, "wandb": config.log.wandb}
    names = dict.fromkeys([*(name for name in chosen if chosen[name]), *config.log.loggers])
    loggers: list[Callback] = [registered("logger", name)(run_dir) for name in names]
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    compute = resolve_compute(config)
    if not resume:
        config = adopted(config)
    checkpoints = Checkpoints(run_dir / "checkpoints", config.log.keep_last)
    last = checkpoints.to_resume() if resume else None
    if not resume:
        check_vacant(run_dir)
    splits = open_run_data(config, run_dir if resume else None, reporter)
    source = splits.split("train")
    _announce_data(reporter, run_dir, splits)
    schedule = build_schedule(config)
    if schedule.steps and len(source) < config.optim.batch_size:
        reporter.say(
            f"optim.batch_size {config.optim.batch_size} exceeds the {len(source)} training items:"
            " each stands in a batch more than once"
        )
    if resume:
        tokenizer = Tokenizer.load(run_dir / "tokenizer.json")
    else:
        own = config.model.text.backbone is not None
        with reporter.phase("reading the tokenizer" if own else "learning the vocabulary"):
            tokenizer = tokenizer_of(config, source, needs_text=needs_text(config.objective))
    if last is None:
        model = build_model(config, tokenizer.vocab_size)
        card = ModelCard(
            arguments=model_arguments(config, tokenizer.vocab_size),
            objective=config.objective.name,
            image_size=config.data.image_size,
            max_tokens=config.data.max_tokens,
            mean=config.data.mean,
            std=config.data.std,
        )
    else:
        card = read_card(last)
        model = resumed_model(config, tokenizer.vocab_size, card.arguments)
    model = model.to(compute.device)
    objective = build_objective(config, grid=model.context.image.grid).to(compute.device)
    optimizer = build_run_optimizer(config, model, objective)
    if config.compute.compile:
        for part in (model.context.image, model.context.text):
            part.compile()

    state = RunState(step=0, cursor=0)
    if last is not None:
        state = checkpoints.restore(last, model, objective, optimizer)
    # once the weights are there, for the features' key is a hash of the frozen ones
    cache = feature_cache_of(
        config, source, model.context, card.arguments["encoders"], tokenizer, compute, reporter
    )
    features = {name: split_features(cache, splits, name) for name in ("train", "validation")}
    with reporter.phase("reading pairs to measure on"):
        held_out = typical = None
        if "validation" in splits.splits:
            made = partial(_validation_pairs, splits, config, features["validation"])
            held_out = _or_none(made, "not measured while training: validation split", reporter)
        else:
            reporter.say("not measured while training: there is no validation split")
        data = config.data
        if schedule.steps:
            made = partial(
                calibration_pairs, source, data.image_size, data.mean, data.std, features["train"]
            )
            typical = _or_none(made, "no calibrated energy: training split", reporter)
    guard = build_guard(config, schedule, measured=held_out is not None)
    evaluation = HeldOut(objective, tokenizer, card, held_out, typical, compute.device)
    if not schedule.steps:
        with reporter.phase("solving in closed form"):
            _check_solvable(features["train"], config)
            embedder = Embedder(model, tokenizer, card, device=compute.device)
            solved = solve_closed_form(embedder, features["train"], held_out)
            evaluation = replace(evaluation, calibration=solved)
    loader = Loader(
        source,
        tokenizer,
        batch_size=config.optim.batch_size,
        image_size=config.data.image_size,
        max_tokens=config.data.max_tokens,
        seed=config.seed,
        crop_scale=config.data.crop_scale,
        flip=config.data.flip,
        mean=config.data.mean,
        std=config.data.std,
        augment=config.data.augment,
        device=compute.device,
        threads=config.data.threads,
        cursor=state.cursor,
        features=features["train"],
    )
    total = sum(parameter_counts(model).values())
    precision = str(compute.precision).removeprefix("torch.")
    reporter.say(f"objective {config.objective.name}, {total / 1e6:.2f} M parameters")
    took = f", steps {state.step} to {schedule.steps} of {config.optim.batch_size} pairs"
    reporter.say(f"compute   {compute.device}, {precision}{took if schedule.steps else ''}")
    if not resume:
        _begin(run_dir, config, splits, tokenizer, parameter_counts(model))
    else:
        _keep_steps(run_dir, config, state.step)
    trainer = Trainer(
        model,
        objective,
        loader,
        schedule=schedule,
        optimizer=optimizer,
        evaluations=[evaluation],
        callbacks=[*loggers, *callbacks],
        out=run_dir,
        report=False,  # that of the whole run comes below
        guard=guard,
        compute=compute,
        accumulate=config.optim.accumulate,
        clip_norm=config.optim.clip_norm,
        seed=config.seed,
        log_every=config.log.every,
        eval_every=config.log.eval_every,
        save_every=config.log.save_every,
        keep_last=config.log.keep_last,
        items=len(source),
        card=card,
        tokenizer=tokenizer,
        state=state,
    )
    collapse: CollapseError | None = None
    try:
        trainer.fit()
    except CollapseError as error:
        collapse = error  # the run gets its report first
    except KeyboardInterrupt:
        saved = checkpoints.last()
        if saved is None:
            reporter.say("stopped before the first checkpoint; nothing can be resumed")
        else:
            reporter.say(
                f"stopped; the last checkpoint is {saved}. Continue with: "
                f"tijepa train --resume --out {shlex.quote(str(run_dir))}"
            )
        raise
    finally:
        _list_rejected(run_dir, loader.rejected)
    final = final_split(splits)
    if final is not None:  # cached for the evaluation of this run and of every later one
        split_features(cache, splits, final)
    original = _as_it_came(config, model, tokenizer, card, compute.device, reporter)
    finish_run(run_dir, config, splits, reporter, compute.device, original)
    if collapse is not None:
        raise collapse
    return run_dir


def _as_it_came(
    config: RunConfig,
    model: TextImageModel,
    tokenizer: Tokenizer,
    card: ModelCard,
    device: torch.device,
    reporter: Reporter,
) -> Embedder | None:
    """A text-image model before training, where that changed its towers."""
    tuned = {tower.train for tower in (config.model.image, config.model.text)} != {"frozen"}
    if not tuned or not compares_projections(model):
        return None
    try:
        original = build_model(config, tokenizer.vocab_size).to(device)
    except ConfigError as error:  # a resumed run may have lost its source
        reporter.say(f"what was forgotten is not measured: {error}")
        return None
    return Embedder(original, tokenizer, card, device=device)


def _validation_pairs(
    splits: PairSplits, config: RunConfig, features: SplitFeatures
) -> EvaluationSet:
    data = config.data
    return evaluation_set(
        splits.split("validation"),
        items=data.eval_items,
        captions=data.eval_captions,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        features=features,
    )


def _or_none(
    make: Callable[[], EvaluationSet], without: str, reporter: Reporter
) -> EvaluationSet | None:
    """What `make` gives; None, and a line that says what a run is `without` it, where it cannot."""
    try:
        return make()
    except DataError as error:
        reporter.say(f"{without}: {error}")
        return None


def _check_solvable(features: SplitFeatures, config: RunConfig) -> None:
    if features.image is None or features.text is None:
        raise ConfigError(
            f"objective.name is '{config.objective.name}', which reads the cached features of a"
            f" store, and {config.data.source} is none: prepare it, and give the store"
        )


def _keep_steps(run_dir: Path, config: RunConfig, done: int) -> None:
    """Write down how long a resumed run shall be; the schedules go on by the new length."""
    if config.optim.steps < done:
        raise ConfigError(
            f"optim.steps is {config.optim.steps}, and {run_dir} has done {done}: give at least"
            " as many, or leave it out"
        )
    path, text = run_dir / "config.yaml", config.to_yaml().encode()
    if path.read_bytes() != text:
        with writing(run_dir):
            write_whole(path, text)


def _begin(
    run_dir: Path,
    config: RunConfig,
    splits: PairSplits,
    tokenizer: Tokenizer,
    parameters: Mapping[str, int],
) -> None:
    """Create the run folder with configuration, environment and tokenizer, or nothing."""
    was_there = run_dir.exists()
    environment = environment_of(config, splits, tokenizer, parameters)
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            (run_dir / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
            tokenizer.save(run_dir / "tokenizer.json")
            write_json(environment, run_dir / "environment.json")
            _list_rejected(run_dir, splits.rejected)
        except BaseException:
            for path in run_dir.iterdir():
                path.unlink()
            if not was_there:
                run_dir.rmdir()
            raise


def _list_rejected(run_dir: Path, items: Iterable[Rejected]) -> None:
    """Add to the list of broken items those that are not on it yet."""
    path = run_dir / "rejected.jsonl"
    with writing(path):
        before = rejected_file(run_dir)
        known = before.read_text(encoding="utf-8").splitlines() if before.exists() else []
        lines = dict.fromkeys([*known, *(json.dumps(asdict(item)) for item in items)])
        if len(lines) > len(known) or before != path:
            write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _announce_data(reporter: Reporter, run_dir: Path, splits: PairSplits) -> None:
    items = ", ".join(f"{name} {len(source):,}" for name, source in splits.splits.items())
    reporter.say(f"results   {run_dir}")
    reporter.say(f"data      {splits.description}: {items}")
    if splits.rejected:
        listed = run_dir / "rejected.jsonl"
        reporter.say(f"skipped {len(splits.rejected)} broken items, listed in {listed}")


# Where and with what a run was made.


def environment_of(
    config: RunConfig, splits: PairSplits, tokenizer: Tokenizer, parameters: Mapping[str, int]
) -> dict[str, Any]:
    """Versions, machine, command, seed, data and sizes, as plain values."""
    return {
        "tijepa": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": config.seed,
        "data": splits.description,
        "store": None if splits.uri is None else _store(splits),
        "items": {name: len(source) for name, source in splits.splits.items()},
        "vocabulary": tokenizer.vocab_size,
        "parameters": dict(parameters),
    }


def _store(splits: PairSplits) -> dict[str, Any]:
    state = {} if splits.state is None else {"state": splits.state}
    return {"uri": splits.uri, "version": splits.version, **state}


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
