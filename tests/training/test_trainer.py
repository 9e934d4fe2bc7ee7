"""The trainer with built parts and no configuration: encoders of one's own, a list of batches."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tijepa.data.pairs import Batch
from tijepa.errors import CheckpointError, CollapseError, ConfigError, DataError, NonFiniteError
from tijepa.evaluate.collapse_metrics import collapse_metrics
from tijepa.inference.embeddings import Embeddings
from tijepa.inference.loading import load
from tijepa.model.encoded import Encoded
from tijepa.model.saving import ModelCard, load_tensors, restore_model, save_model
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.rivals import CLIPObjective
from tijepa.training import Callback, Evaluated, Schedule, Trainer
from tijepa.training import loop as loop_module
from tijepa.training.guard import Guard, Timing

SIDE, WORDS, STEPS = 8, 20, 6


class Colours(nn.Module):
    """A stranger's image encoder: one token, the mean colour through a linear map."""

    frozen, grid, width, pooled_width = False, 1, 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Encoded:
        tokens = self.linear(images.mean(dim=(2, 3)))[:, None]
        one = torch.ones(len(images), 1, dtype=torch.bool)
        return Encoded(tokens, torch.zeros(len(images), 1, dtype=torch.long), one, tokens[:, 0])


class Bag(nn.Module):
    """A stranger's text encoder: the mean of word vectors."""

    frozen, width, pooled_width = False, 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Encoded:
        tokens = self.embed(ids)
        position = torch.arange(ids.shape[1]).expand(ids.shape[0], -1)
        return Encoded(tokens, position, mask, tokens.mean(dim=1))


def model(*, predictors: bool = False) -> TextImageModel:
    torch.manual_seed(0)
    return TextImageModel(
        encoders={
            "image": Colours(),
            "text": Bag(),
            "head": {"depth": 1, "hidden": 8, "norm": "batch"},
            "embed_dim": 4,
        },
        predictors=None,
        ema=False,
    )


def batches(count: int = 3, rows: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    every = torch.ones(rows, dtype=torch.bool)
    return [
        Batch(
            images=torch.rand(rows, 3, SIDE, SIDE, generator=generator),
            has_image=every,
            tokens=torch.randint(2, WORDS, (rows, 4), generator=generator),
            token_mask=torch.ones(rows, 4, dtype=torch.bool),
            has_text=every,
            indices=torch.arange(rows),
            cursor=0,
        )
        for _ in range(count)
    ]


class Told(Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_start(self, step: int, steps: int) -> None:
        self.events.append(("start", step, steps))

    def on_step(self, step: int, record: Mapping[str, Any] | None) -> None:
        self.events.append(("step", step, record is not None))

    def on_evaluation_start(self, step: int) -> None:
        self.events.append(("evaluating", step))

    def on_evaluation(self, step: int, record: Mapping[str, Any]) -> None:
        self.events.append(("evaluation", step, record["bias"]))

    def on_checkpoint(self, step: int, path: Path) -> None:
        self.events.append(("checkpoint", step, path.name))

    def on_rollback(self, step: int, to_step: int, rollbacks: int) -> None:
        self.events.append(("rollback", step, to_step, rollbacks))

    def on_end(self) -> None:
        self.events.append("end")


def trainer(
    out: Path | None = None, loader: Any = None, steps: int = STEPS, **options: Any
) -> Trainer:
    settings = {"log_every": 2, "eval_every": 3, "save_every": 3, **options}
    return Trainer(
        model(),
        CLIPObjective(),
        batches() if loader is None else loader,
        schedule=Schedule(steps=steps, lr=0.01),
        out=out,
        **settings,
    )


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_modules_of_ones_own_learn_without_configuration_or_folder() -> None:
    made = trainer(steps=60)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    state = made.fit()
    assert state.step == 60
    assert all(not torch.equal(p, before[name]) for name, p in made.model.named_parameters())


def test_callbacks_are_told_everything_in_order(tmp_path: Path) -> None:
    told = Told()
    made = trainer(
        tmp_path / "run", callbacks=[told], evaluations=[lambda model: {"bias": 0.5}], steps=3
    )
    made.fit()
    assert told.events == [
        ("start", 0, 3),
        ("step", 1, False),
        ("step", 2, True),
        ("step", 3, True),
        ("evaluating", 3),
        ("evaluation", 3, 0.5),
        ("checkpoint", 3, "step-00000003"),
        "end",
    ]


def test_callbacks_end_also_where_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(loop_module, "training_step", failing)
    told = Told()
    with pytest.raises(ZeroDivisionError):
        trainer(callbacks=[told]).fit()
    assert told.events == [("start", 0, STEPS), "end"]


def test_a_folder_gets_metrics_checkpoints_and_a_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out, evaluations=[lambda model: {"mine": 0.25}, lambda model: {"yours": 1}]).fit()
    told = metrics(out)
    assert [line["step"] for line in told if line["kind"] == "train"] == [2, 4, 6]
    evaluations = [line for line in told if line["kind"] == "eval"]
    assert [(e["step"], e["mine"], e["yours"]) for e in evaluations] == [(3, 0.25, 1), (6, 0.25, 1)]
    assert sorted(p.name for p in (out / "checkpoints").glob("step-*")) == [
        "step-00000003",
        "step-00000006",
    ]
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")


def test_a_checkpoint_that_cannot_be_loaded_says_what_the_trainer_lacked(tmp_path: Path) -> None:
    """Without a card, without a tokenizer, and of an encoder that nobody registered."""
    trainer(tmp_path / "bare").fit()
    with pytest.raises(
        CheckpointError, match=r"no model\.json, .*: give the Trainer card and tokenizer"
    ):
        load(tmp_path / "bare")
    checkpoint = tmp_path / "bare/checkpoints/step-00000006"
    restored = model()
    restore_model(restored, checkpoint)
    assert torch.equal(restored.context.text.embed.weight, trained_words(checkpoint))
    own = {"width": 8, "depth": 1, "heads": 1}
    encoders = {
        "image": {"image_size": SIDE, "patch_size": 4, **own},
        "text": {"vocab_size": WORDS, "max_tokens": 4, **own},
        "head": {"depth": 1, "hidden": 8, "norm": "batch"},
        "embed_dim": 4,
    }
    card = ModelCard({"encoders": encoders, "predictors": None}, "clip", SIDE, 4)
    ours = TextImageModel(**card.arguments, ema=False)
    save_model(ours, card, folder := new_folder(tmp_path / "ours"))
    with pytest.raises(
        CheckpointError, match=r"a model and no tokenizer\.json: give the Trainer a tokenizer"
    ):
        load(folder)
    encoders["image"] = {"encoder": "nobodys"}
    save_model(ours, card, folder)
    with pytest.raises(CheckpointError, match=r"'nobodys' is unknown.*; import the package that"):
        load(folder)


def trained_words(checkpoint: Path) -> Tensor:
    return load_tensors(checkpoint / "model.safetensors")["context.text.embed.weight"]


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_run_that_is_resumed_repeats_an_uninterrupted_one(tmp_path: Path, after: int) -> None:
    """Three batches, six steps: the loader is asked anew, and what was used is passed over."""

    class Interrupting(Callback):
        def on_step(self, step: int, record: Mapping[str, Any] | None) -> None:
            if step == after:
                signal.raise_signal(signal.SIGINT)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(whole).fit()
    with pytest.raises(KeyboardInterrupt):
        trainer(parts, callbacks=[Interrupting()]).fit()
    resumed = trainer(parts, resume=True)
    assert resumed.state.step == after
    resumed.fit()
    for name in ("model", "objective", "optimizer"):
        path = f"checkpoints/step-00000006/{name}.safetensors"
        assert (whole / path).read_bytes() == (parts / path).read_bytes()
    timed = ("pairs_per_second", "data_wait")

    def facts(out: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k not in timed} for line in metrics(out)]

    assert facts(whole) == facts(parts)


def constant(model: TextImageModel) -> Evaluated:
    """Every item is the same: collapsed."""
    z = torch.ones(64, 4)
    readings = collapse_metrics(Embeddings(z, z, z, z), {})
    return Evaluated({"bias": 0.0}, readings)


def test_a_guard_that_acts_stops_a_collapsed_run_with_everything_saved(tmp_path: Path) -> None:
    guard = Guard(Timing(settled=1, half=2), "stop", 1, 0.5, 0)
    out = tmp_path / "run"
    with pytest.raises(CollapseError, match=r"guard.action=stop at step 3: collapsed"):
        trainer(out, evaluations=[constant], guard=guard).fit()
    assert metrics(out)[-1]["health"]["verdict"] == "collapsed"
    assert (out / "checkpoints/step-00000003").exists()
    assert (out / "report.html").exists()


def test_without_a_guard_of_ones_own_collapse_is_only_told(tmp_path: Path) -> None:
    trainer(tmp_path / "run", evaluations=[constant]).fit()
    assert metrics(tmp_path / "run")[-1]["health"]["verdict"] == "collapsed"


def test_an_update_that_is_not_finite_is_named_at_the_next_reading(tmp_path: Path) -> None:
    """The second batch is poisoned; records are read at step 4."""
    loader = batches()
    loader[1].images[0, 0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"^loss nan, .* at step 2 with .* no checkpoint was"):
        trainer(tmp_path / "run", loader, log_every=4, eval_every=6, save_every=6).fit()
    assert metrics(tmp_path / "run") == []


def test_by_the_recall_of_an_evaluation_the_best_checkpoint_is_kept(tmp_path: Path) -> None:
    recalls = iter([0.5, 0.9, 0.1])
    made = trainer(
        tmp_path / "run",
        evaluations=[lambda model: Evaluated({}, recall=next(recalls))],
        eval_every=2,
        keep_last=1,
    )
    assert made.fit().best_step == 4
    kept = sorted(p.name for p in (tmp_path / "run/checkpoints").glob("step-*"))
    assert kept == ["step-00000004", "step-00000006"]
    assert load_tensors(tmp_path / "run/checkpoints/step-00000004/model.safetensors")


def test_a_folder_that_holds_something_is_refused_unless_it_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not an empty folder: resume the run there, or"):
        trainer(tmp_path)


@pytest.mark.parametrize(
    "options", [{"resume": True}, {"guard": Guard(Timing(1, 2), "rollback", 1, 0.5, 1)}]
)
def test_without_a_folder_nothing_can_be_resumed_or_rolled_back(options: Any) -> None:
    with pytest.raises(ConfigError, match="needs `out`, its folder"):
        trainer(**options)


@pytest.mark.parametrize("loader", [[], iter(batches(1))])
def test_a_loader_that_ends_for_good_is_refused(loader: Sequence[Batch]) -> None:
    with pytest.raises(DataError, match="the loader gives no batch"):
        trainer(loader=loader).fit()
