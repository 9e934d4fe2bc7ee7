"""With and without negatives: tijepa against CLIP at small batches, on equal terms.

Same encoders, same order of pairs, same steps, same optimizer and schedule; for every objective and
batch size the learning rate is tuned on the validation split (seed 0), then every seed is trained
at the best one and judged on the test split: recall at 1 among 500 held-out scenes with distinct
captions, mean of both directions. The rival keeps its own best habits: a learned temperature, a
linear head as published, cosine similarity.

    python benchmarks/negatives.py [--quick] [--processes 2] [--out FILE]

Runs that are finished are kept in a journal beside the results and not done again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from picture import draw_rates
from record import RESULTS, write_record
from tijepa.config import RunConfig, load_config
from tijepa.data.loader import Loader
from tijepa.data.pairs import Item, PairSource, Picture
from tijepa.data.scenes import Scenes
from tijepa.data.tokenizer import Tokenizer
from tijepa.embedder import Embedder
from tijepa.evaluate.model import calibrate, evaluation_set, measure
from tijepa.model.saving import ModelCard
from tijepa.train.build import build_model, build_objective, model_arguments, resolve_compute
from tijepa.train.loop import rates_at
from tijepa.train.optimizer import build_optimizer
from tijepa.train.step import training_step

STEPS = {8: 3600, 16: 2400, 64: 1200, 256: 400}
RATES = [1.25e-4 * 2**k for k in range(-2, 7)]  # 3.1e-5 to 8e-3
FIRST = {"tijepa": 1e-3, "clip": 5e-4}  # where tuning starts; it walks on while it gets better
SETTINGS = {"tijepa": [], "clip": ["objective.name=clip", "model.head.depth=0"]}
HELD_OUT = 500


@dataclass(frozen=True)
class Job:
    """One training run."""

    objective: str
    batch: int
    lr: float
    seed: int
    steps: int
    held_out: int


@dataclass(frozen=True)
class Drawn(Picture):
    """Pixels that are there already."""

    array: np.ndarray

    def pixels(self, min_side: int) -> np.ndarray:
        return self.array


class Remembered(PairSource):
    """A source whose pictures and captions are made once and kept, for many runs on equal data."""

    def __init__(self, source: PairSource, items: int) -> None:
        self.items: list[Item] = []
        for i in range(items):
            item = source.read([i])[0]
            assert item.picture is not None
            self.items.append(Item(item.captions, Drawn(item.picture.pixels(64))))

    def __len__(self) -> int:
        return len(self.items)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        return [self.items[i] for i in indexes]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [self.items[i].captions for i in indexes]

    def item_id(self, index: int) -> str:
        return f"scene {index}"


_KEPT: dict[int, Remembered] = {}


def train_source(items: int) -> Remembered:
    """The training scenes of this process."""
    if items not in _KEPT:
        _KEPT[items] = Remembered(Scenes("train", items), items)
    return _KEPT[items]


def configuration(job: Job) -> RunConfig:
    """The demo's configuration with what the job changes."""
    return load_config(
        "scenes",
        overrides=[
            *SETTINGS[job.objective],
            f"seed={job.seed}",
            f"optim.batch_size={job.batch}",
            f"optim.lr={job.lr}",
            f"optim.steps={job.steps}",
        ],
    )


def run(job: Job) -> dict[str, Any]:
    """Train once; recall at 1 (mean of both directions and each) on validation and test."""
    torch.set_num_threads(1)
    config = configuration(job)
    source = train_source(min(60_000, job.steps * job.batch))
    tokenizer = Tokenizer.train(
        (text for index in range(min(5000, len(source))) for text in source.captions(index)), 4096
    )
    model = build_model(config, tokenizer.vocab_size)
    objective = build_objective(config)
    optimizer = build_optimizer([model, objective], lr=job.lr, betas=config.optim.betas)
    compute = resolve_compute(config)
    model.train()
    with Loader(
        source,
        tokenizer,
        batch_size=job.batch,
        image_size=64,
        max_tokens=config.data.max_tokens,
        seed=job.seed,
        threads=0,
    ) as loader:
        batches = iter(loader)
        for step in range(job.steps):
            reading = training_step(
                model,
                objective,
                optimizer,
                next(batches),
                rates_at(config, step),
                seed=(job.seed, step, 0),
                compute=compute,
                clip_norm=config.optim.clip_norm,
            )
            if not reading.finite:
                return {**asdict(job), "validation": 0.0, "test": 0.0, "diverged": step}
    card = ModelCard(
        model_arguments(config, tokenizer.vocab_size), job.objective, 64, config.data.max_tokens
    )
    embedder = Embedder(model, tokenizer, card)
    pairs = evaluation_set(source, items=min(2048, len(source)), captions=1, image_size=64)
    held_out = {
        split: evaluation_set(
            Scenes(split, job.held_out, distinct=True),
            items=job.held_out,
            captions=1,
            image_size=64,
        )
        for split in ("validation", "test")
    }
    embedder.calibration = calibrate(embedder, pairs, held_out["validation"])
    result: dict[str, Any] = asdict(job)
    for split, data in held_out.items():
        measured = measure(embedder, data).results
        by_form = {form: both(r) for form, r in measured["energies"].items()}
        retrieval = measured["retrieval"]
        result[split] = both(retrieval)
        result[f"{split}_image_to_text"] = retrieval["image_to_text"]["recall_at_1"]
        result[f"{split}_text_to_image"] = retrieval["text_to_image"]["recall_at_1"]
        result[f"{split}_by_form"] = by_form
        result[f"{split}_verdict"] = measured["collapse"]["verdict"]
    return result


def both(retrieval: dict[str, Any]) -> float:
    """Recall at 1, mean of the two directions."""
    names = ("image_to_text", "text_to_image")
    return fmean(float(retrieval[name]["recall_at_1"]) for name in names)


class Journal:
    """Finished runs, one JSON line each, so that an interrupted benchmark goes on."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[Job, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self.add(json.loads(line))

    def add(self, result: dict[str, Any]) -> None:
        self.done[Job(**{name: result[name] for name in Job.__dataclass_fields__})] = result

    def record(self, result: dict[str, Any]) -> None:
        self.add(result)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


def compute(jobs: list[Job], journal: Journal, pool: ProcessPoolExecutor, out: Console) -> None:
    """Do the jobs that the journal lacks, and say what each gave."""
    missing = [job for job in dict.fromkeys(jobs) if job not in journal.done]
    for result in pool.map(run, missing):
        journal.record(result)
        out.print(
            f"{result['objective']:>7} batch {result['batch']:>3} lr {result['lr']:.2e} seed "
            f"{result['seed']}: validation {100 * result['validation']:.1f} %, "
            f"test {100 * result['test']:.1f} %",
            highlight=False,
        )


def tune(
    pairs: list[tuple[str, int]], options: argparse.Namespace, journal: Journal, **kw: Any
) -> dict[tuple[str, int], float]:
    """The best learning rate on validation for every objective and batch size.

    From three neighbours of the starting rate the search walks towards better ones until the best
    has been tried on both sides.
    """
    tried: dict[tuple[str, int], set[int]] = {}
    for name, _ in pairs:
        start = min(range(len(RATES)), key=lambda k: abs(RATES[k] - FIRST[name]))
        for pair in pairs:
            if pair[0] == name:
                tried[pair] = {start - 1, start, start + 1} if not options.quick else {start}
    while True:
        jobs = [job_of(p, RATES[k], 0, options) for p in pairs for k in sorted(tried[p])]
        compute(jobs, journal, **kw)
        grown = False
        best = {}
        for pair in pairs:
            score = {
                k: journal.done[job_of(pair, RATES[k], 0, options)]["validation"]
                for k in tried[pair]
            }
            top = max(score, key=lambda k: score[k])
            best[pair] = RATES[top]
            neighbours = {k for k in (top - 1, top + 1) if 0 <= k < len(RATES)}
            if not options.quick and not neighbours <= tried[pair]:
                tried[pair] |= neighbours
                grown = True
        if not grown:
            return best


def job_of(pair: tuple[str, int], lr: float, seed: int, options: argparse.Namespace) -> Job:
    steps = 12 if options.quick else STEPS[pair[1]]
    return Job(pair[0], pair[1], lr, seed, steps, 50 if options.quick else HELD_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: the figures mean nothing"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64], choices=sorted(STEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/negatives.json")
    options = parser.parse_args()
    console = Console()
    journal = Journal(None if options.quick else RESULTS / "negatives.journal.jsonl")
    pairs = [(name, batch) for batch in options.batches for name in SETTINGS]
    seeds = range(2 if options.quick else options.seeds)
    with ProcessPoolExecutor(options.processes) as pool:
        kw = {"pool": pool, "out": console}
        best = tune(pairs, options, journal, **kw)
        finals = [job_of(pair, best[pair], seed, options) for pair in pairs for seed in seeds]
        compute(finals, journal, **kw)

    table = Table(
        title="Recall at 1 of 500 held-out scenes, mean of both directions (chance 0.2 %)"
    )
    for heading in ("batch", "objective", "learning rate", "mean", "range", "ratio to CLIP"):
        table.add_column(heading, justify="right")
    summary: dict[str, Any] = {}
    for name, batch in pairs:
        tests = [journal.done[job_of((name, batch), best[name, batch], s, options)] for s in seeds]
        recalls = [result["test"] for result in tests]
        summary.setdefault(str(batch), {})[name] = {
            "lr": best[name, batch],
            "steps": tests[0]["steps"],
            "mean": fmean(recalls),
            "range": [min(recalls), max(recalls)],
            "image_to_text": fmean(r["test_image_to_text"] for r in tests),
            "text_to_image": fmean(r["test_text_to_image"] for r in tests),
        }
    ratio = {
        batch: by["tijepa"]["mean"] / max(1e-9, by["clip"]["mean"]) for batch, by in summary.items()
    }
    for name, batch in pairs:
        row = summary[str(batch)][name]
        low, high = row["range"]
        table.add_row(
            str(batch),
            name,
            f"{row['lr']:.2e}",
            f"{100 * row['mean']:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f} %",
            f"{ratio[str(batch)]:.2f}" if name == "tijepa" else "",
        )
    console.print(table)
    steps = {batch: job_of(("tijepa", batch), 1.0, 0, options).steps for batch in options.batches}
    runs = [r for r in journal.done.values() if r["steps"] == steps.get(r["batch"])]
    tuning = [
        {key: r[key] for key in ("objective", "batch", "lr", "validation")}
        for r in runs
        if r["seed"] == 0
    ]
    payload = {
        "seeds": list(seeds),
        "held_out": 50 if options.quick else HELD_OUT,
        "ratio_to_clip": ratio,
        "summary": summary,
        "learning_rates_tried": sorted(tuning, key=lambda r: (r["batch"], r["objective"], r["lr"])),
        "runs": runs,
        "configuration": configuration(
            job_of(("tijepa", options.batches[0]), 5e-4, 0, options)
        ).to_yaml(),
    }
    out = options.out or (RESULTS / "negatives.quick.json" if options.quick else None)
    path = write_record("negatives", payload, out)
    draw_rates(payload, path.with_suffix(".svg"))
    console.print(f"written to {path} and beside it the picture", highlight=False)


if __name__ == "__main__":
    main()
