"""The paper's objective on frozen encoders: what is trained, what runs how often, resume, use."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tijepa
from tijepa.config import RunConfig, load_config
from tijepa.data.pairs import Batch
from tijepa.io.progress import SILENT
from tijepa.model.saving import load_tensors, read_json
from tijepa.training import train
from tijepa.training.build import build_model, build_objective
from tijepa.training.optimizer import ScheduleValues, build_optimizer
from tijepa.training.step import Compute, training_step

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture
def config(backbones: dict[str, Path], pairs_folder: Path) -> Callable[..., RunConfig]:
    """The preset paper-tiny at 64 px on tiny backbones of random weights, six steps of eight."""
    return lambda *more: load_config(
        "paper-tiny",
        overrides=[
            *(f"model.{name}.backbone={json.dumps(str(path))}" for name, path in backbones.items()),
            f"data.source={json.dumps(str(pairs_folder))}",
            "data.image_size=64",
            "model.fusion={width: 12, depth: 1, heads: 3}",
            "model.token_predictor={width: 8, depth: 1, heads: 2}",
            *("optim.steps=6", "optim.batch_size=8"),
            *("log.every=1", "log.eval_every=3", "log.save_every=3"),
            *("compute.device=cpu", "compute.precision=float32", "compute.threads=1"),
            *more,
        ],
    )


def batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    every = torch.ones(count, dtype=torch.bool)
    mask = torch.arange(8).expand(count, -1) < torch.tensor([[3], [8], [5], [4]])[:count]
    return Batch(
        images=torch.rand(count, 3, 64, 64, generator=generator) * 2 - 1,
        has_image=every,
        tokens=torch.randint(4, 16, (count, 8), generator=generator) * mask,
        token_mask=mask,
        has_text=every,
        indices=torch.arange(count),
        cursor=count,
    )


def test_a_step_trains_the_fusion_and_its_predictor_and_runs_each_frozen_encoder_once(
    config: Callable[..., RunConfig],
) -> None:
    """The image encoder once more for the visible patches; the EMA copies of both not at all."""
    made = config()
    model, objective = build_model(made, 4096).train(), build_objective(made)
    assert model.target is not None
    assert model.target.fusion is not None
    optimizer = build_optimizer([model, objective], lr=1e-2, betas=(0.9, 0.999))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls = {"image": 0, "text": 0, "target image": 0, "target text": 0}

    def count(name: str) -> Callable[..., None]:
        def add(*_: object) -> None:
            calls[name] += 1

        return add

    for prefix, encoders in (("", model.context), ("target ", model.target)):
        encoders.image.register_forward_hook(count(f"{prefix}image"))
        encoders.text.register_forward_hook(count(f"{prefix}text"))
    rates = ScheduleValues(lr=1e-2, weight_decay=0.0, ema_momentum=0.5)
    reading = training_step(
        model, objective, optimizer, batch(), rates, seed=(0, 0, 0), compute=CPU
    )
    assert reading.finite
    assert calls == {"image": 2, "text": 1, "target image": 0, "target text": 0}
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    parts = ("context.fusion.", "target.fusion.", "predictors.fused.")
    assert {part for part in parts if any(name.startswith(part) for name in moved)} == set(parts)
    assert all(name.startswith(parts) for name in moved)


def test_a_run_resumes_bit_for_bit_and_its_model_gives_fused_features(
    config: Callable[..., RunConfig],
    tmp_path: Path,
    pairs_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is frozen comes back from its own file, X and X̄ from the checkpoint."""
    from tijepa.training import loop

    update = loop._update

    def interrupted(*arguments: object) -> object:
        if arguments[-1] == 3:
            signal.raise_signal(signal.SIGINT)
        return update(*arguments)

    quiet = SILENT
    train(config(), tmp_path / "whole", reporter=quiet)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config(), tmp_path / "parts", reporter=quiet)
    train(config(), tmp_path / "parts", resume=True, reporter=quiet)
    name = "checkpoints/step-00000006/model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    weights = load_tensors(tmp_path / "whole" / name)
    fusion = [n for n in weights if n.startswith("context.fusion.")]
    assert fusion
    assert any(
        not torch.equal(weights[n], weights[n.replace("context.", "target.")]) for n in fusion
    )
    results = read_json(tmp_path / "whole/results.json")
    assert results["checkpoint"] == "step-00000006"
    model = tijepa.load(tmp_path / "whole")
    images = [pairs_folder / f"test-{k}.png" for k in range(3)]
    features = model.encode_pair(images, ["a red circle", "a dog", "the blue square"])
    assert features.shape == (3, 12)
    assert bool(torch.isfinite(features).all())
