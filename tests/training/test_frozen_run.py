"""Runs on frozen backbones: features made once, the same losses as without them, whole runs."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tijepa import load
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig, load_config
from tijepa.data.store.prepare import cache_folder
from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.inference import frozen_encoders
from tijepa.inference.feature_cache import COMPLETE
from tijepa.inference.results import RunResults
from tijepa.io.progress import SILENT
from tijepa.io.vectors import JOURNAL
from tijepa.model.pretrained.sources import open_text_source
from tijepa.model.pretrained.weights import hash_of_weights
from tijepa.runs.evaluation import evaluate_run
from tijepa.training import dry_run, train
from tijepa.training.backbones import adopted

SETTINGS = """
    data.max_tokens=16 model.image.pool=grid model.embed_dim=8 model.head.hidden=16
    model.pooled_predictor.hidden=16 optim.steps=6 optim.batch_size=8 log.every=1
    log.eval_every=3 log.save_every=3 compute.device=cpu compute.precision=float32
    compute.threads=1 log.tensorboard=false
"""
TOKENS = ["objective.tasks.text_to_image.tokens=0.5", "objective.tasks.image_to_text.tokens=0.5"]
HIDING = ["objective.tasks.image_infill=0.5"]

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def folders(
    backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The backbones in a place of their own, from which they can be taken away."""
    place = tmp_path_factory.mktemp("own-backbones")
    return {name: shutil.copytree(path, place / name) for name, path in backbones.items()}


@pytest.fixture(scope="module")
def configure(folders: dict[str, Path], pairs_folder: Path) -> Configure:
    settings = [
        f"data.source={json.dumps(str(pairs_folder))}",
        f"model.image.backbone={folders['image']}",
        f"model.text.backbone={folders['text']}",
        *SETTINGS.split(),
    ]
    return lambda *overrides: load_config(overrides=[*settings, *overrides])


@pytest.fixture(scope="module")
def frozen_run(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(configure(), tmp_path_factory.mktemp("runs") / "frozen")


def run(config: RunConfig, folder: Path, **options: Any) -> Path:
    return train(config, folder, reporter=SILENT, **options)


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in records(folder) if record["kind"] == "train"]


def features_of(modality: str, split: str) -> list[Path]:
    return sorted(cache_folder().glob(f"*.features/v*/{modality}-*/{split}"))


def test_losses_are_those_of_encoding_at_every_step(
    configure: Configure, frozen_run: Path, tmp_path: Path
) -> None:
    live = run(configure("data.cache_features=false"), tmp_path / "live")
    assert losses(frozen_run) == pytest.approx(losses(live), rel=1e-5)
    kept, again = (
        [r for r in records(folder) if r["kind"] == "eval"][-1] for folder in (frozen_run, live)
    )
    assert kept["retrieval"] == again["retrieval"]
    assert kept["tasks"]["text_to_image/pooled"] == pytest.approx(
        again["tasks"]["text_to_image/pooled"], rel=1e-4
    )


def test_token_features_are_off_by_their_rounding_alone(
    configure: Configure, tmp_path: Path
) -> None:
    """A bfloat16 has 8 bits, so tokens are off by 2^-9 of themselves on average at most."""
    kept = run(configure(*TOKENS), tmp_path / "kept")
    live = run(configure(*TOKENS, "data.cache_features=false"), tmp_path / "live")
    assert losses(kept) == pytest.approx(losses(live), rel=2e-3)
    assert losses(kept) != pytest.approx(losses(live), rel=1e-7)


def test_a_second_run_and_its_evaluations_do_not_touch_the_backbones(
    configure: Configure, frozen_run: Path, tmp_path: Path, encoded: dict[str, int]
) -> None:
    """Features of all three splits lie beside the store, the test split's since the first end."""
    encoded |= dict.fromkeys(encoded, 0)  # the first run is of before, or has just been made
    again = run(configure(), tmp_path / "again")
    said = Console(record=True, file=io.StringIO(), width=200)
    results = evaluate_run(again, reporter=ConsoleReporter(said))
    assert encoded == {"image": 0, "text": 0}
    assert losses(again) == losses(frozen_run)
    kept = RunResults.from_json(json.loads((again / "results.json").read_text()))
    assert results.energies == kept.energies
    assert "image: the test split from the cache of an earlier run" in said.export_text()


def test_an_evaluation_by_cached_features_finds_what_one_by_images_finds(
    configure: Configure, frozen_run: Path, tmp_path: Path
) -> None:
    """In float32 features are exact; `--data` names the same pairs in a place without features."""
    folder = configure().data.source
    elsewhere = shutil.copytree(folder, tmp_path / "pairs")
    kept, live = evaluate_run(frozen_run), evaluate_run(frozen_run, data=str(elsewhere))
    assert kept.retrieval == live.retrieval


def test_what_hides_patches_encodes_images_at_every_step(
    configure: Configure, tmp_path: Path
) -> None:
    said = Console(record=True, quiet=False, file=io.StringIO(), width=200)
    before = features_of("image", "train")
    train(configure(*HIDING, "optim.steps=2"), tmp_path / "hiding", reporter=ConsoleReporter(said))
    text = said.export_text()
    assert "the frozen image encoder runs at every step: objective.tasks.image_infill" in text
    assert features_of("image", "train") == before


def test_a_run_is_whole_without_the_folders_of_its_backbones(
    configure: Configure, folders: dict[str, Path], frozen_run: Path, tmp_path: Path
) -> None:
    """It is loaded and resumed, and its frozen weights are the backbone's to the last bit."""
    weights = hash_of_weights(open_text_source(str(folders["text"])).weights())
    copy = shutil.copytree(frozen_run, tmp_path / "run")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    away = folders["text"].with_name("away")
    folders["text"].rename(away)
    try:
        embedder = load(frozen_run)
        resumed = run(load_config(file=copy / "config.yaml"), copy, resume=True)
    finally:
        away.rename(folders["text"])
    assert hash_of_weights(embedder.model.context.text.net.state_dict()) == weights
    assert losses(resumed) == losses(frozen_run)
    assert embedder.energy(torch.zeros(3, 32, 32), "a red circle").isfinite().all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("embed_dim: 8", "embed_dim: 12"),
        ("pooled_predictor:\n    kind: mlp\n    depth: 1", "pooled_predictor:\n    depth: 2"),
    ],
)
def test_resume_refuses_another_shape_around_the_backbones(
    frozen_run: Path, tmp_path: Path, old: str, new: str
) -> None:
    """Heads and predictors are as configured, backbones as the checkpoint has them."""
    copy = shutil.copytree(frozen_run, tmp_path / "run")
    text = (copy / "config.yaml").read_text()
    assert old in text
    (copy / "config.yaml").write_text(text.replace(old, new))
    with pytest.raises(CheckpointError, match="use the configuration it was trained with"):
        run(load_config(file=copy / "config.yaml"), copy, resume=True)


def test_frozen_weights_are_written_once(frozen_run: Path) -> None:
    files = {path.stat().st_ino for path in frozen_run.rglob("frozen.safetensors")}
    assert len(list(frozen_run.rglob("frozen.safetensors"))) == 3
    assert len(files) == 1


def test_the_run_takes_the_backbones_size_and_tokenizer(
    configure: Configure, frozen_run: Path
) -> None:
    written = load_config(file=frozen_run / "config.yaml")
    assert written.data.image_size == 32
    assert adopted(configure("data.image_size=64")).data.image_size == 64
    ids = load(frozen_run).tokenizer.encode(["a red circle"], 16).ids
    assert ids.tolist() == [[2, 4, 5, 8, 3]]  # [CLS] a red circle [SEP]
    with pytest.raises(ConfigError, match="reads at most 64"):
        adopted(configure("data.max_tokens=65"))


@pytest.mark.parametrize("mode", ["last_k", "lora", "full"])
def test_a_trained_backbone_moves_and_is_saved(
    configure: Configure, folders: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    settings = [f"model.text.train={mode}", "model.text.lr_scale=0.1", "optim.steps=2"]
    if mode == "last_k":
        settings.append("model.text.last_k=1")
    if mode == "full":
        settings.append("objective.pooled_targets=ema")
    trained = load(run(configure(*settings), tmp_path / mode)).model.context.text.net
    before = open_text_source(str(folders["text"])).weights()
    after = trained.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    if mode == "lora":
        assert not moved
        assert any(v.any() for n, v in after.items() if n.endswith("lora_b"))
    elif mode == "last_k":
        assert moved
        assert all(name.startswith("encoder.layer.1.") for name in moved)
    else:
        assert {"embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"} <= moved


def test_a_plan_does_not_count_what_is_encoded_once(configure: Configure) -> None:
    found = dry_run(configure())
    assert found.parameters["image encoder"] == 0
    assert "cache_features: true" in found.to_text()


def test_a_plan_counts_weights_that_targets_share_once(configure: Configure) -> None:
    """An EMA copy of a frozen encoder is the encoder itself: heads alone are there twice."""
    alone, copied = dry_run(configure()), dry_run(configure("objective.pooled_targets=ema"))
    assert alone.parameters == copied.parameters
    heads = 4 * sum(n for name, n in alone.parameters.items() if name != "predictors")
    assert heads <= copied.memory - alone.memory < 1.2 * heads  # the rest are buffers


def test_stale_and_damaged_features_are_errors(
    configure: Configure, frozen_run: Path, tmp_path: Path
) -> None:
    for folder in features_of("text", "train"):
        manifest = folder / COMPLETE
        text = manifest.read_text()
        manifest.write_text(text.replace('"store": "version', '"store": "another version'))
    with pytest.raises(DataError, match=r"stale: their store is another .* delete .* made anew"):
        run(configure(), tmp_path / "stale")
    for folder in features_of("text", "train"):
        manifest = folder / COMPLETE
        manifest.write_text(manifest.read_text().replace("another version", "version"))
        with open(folder / "pooled.f32", "ab") as file:
            file.write(b"\0")
    with pytest.raises(DataError, match=r"damaged .* bytes instead of .* delete"):
        run(configure(), tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()
    for folder in features_of("text", "train"):
        shutil.rmtree(folder)


def test_an_interrupt_loses_nothing_that_was_made(
    configure: Configure, frozen_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(configure("optim.steps=2"), tmp_path / "first")  # they may have been removed
    folders = features_of("text", "train")
    expected = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders]
    for folder in folders:
        shutil.rmtree(folder)
    monkeypatch.setattr(frozen_encoders, "_ITEMS", 10)
    encode, calls = frozen_encoders._of_texts, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(frozen_encoders, "_of_texts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(configure("optim.steps=2"), tmp_path / "second")
    partial = list(cache_folder().glob(f"*.features/v*/text-*/train/{JOURNAL}"))
    lines = [f.read_text().splitlines() for f in partial]
    assert [json.loads(own[-1])["items"] for own in lines] == [20]
    run(configure("optim.steps=2"), tmp_path / "second")
    (made,) = features_of("text", "train")
    again = {f.name: f.read_bytes() for f in made.iterdir()}
    assert again["rows.u32"] in [each["rows.u32"] for each in expected]
    assert len(again["pooled.f32"]) in [len(each["pooled.f32"]) for each in expected]
    assert losses(tmp_path / "second") == pytest.approx(losses(tmp_path / "first"), rel=1e-5)


def test_a_trained_vit_computes_its_activations_again(configure: Configure) -> None:
    """Of each of the two blocks only the input is kept; the text encoder stays frozen."""
    plain = ["objective.regularize_image.name=none", "objective.regularize_text.name=none"]
    everything, inputs = (
        dry_run(
            configure(*plain, "model.image.train=full", f"compute.gradient_checkpointing={flag}")
        ).activations
        for flag in ("false", "true")
    )
    assert inputs < 0.5 * everything


def test_a_trained_network_of_a_library_cannot_and_says_so(
    configure: Configure, tmp_path: Path
) -> None:
    config = configure("model.text.train=lora", "compute.gradient_checkpointing=true")
    with pytest.raises(
        ConfigError, match=r"set it to false, or model\.text\.train=frozen"
    ) as error:
        train(config, tmp_path / "run")
    assert "\n" not in str(error.value)
