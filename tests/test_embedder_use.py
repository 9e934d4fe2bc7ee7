"""What people ask of a loaded model beyond embeddings and energies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.complaints import complaints

import tijepa
from tijepa.errors import ConfigError, DataError
from tijepa.inference import parallel as batches
from tijepa.inference.embedder import Embedder

TEXTS = ["a red ball", "a blue cube left of a green ball", "", "ball " * 50, "x"]


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Embedder:
    return tijepa.load(tiny_run)


@pytest.fixture(scope="module")
def paths(pairs_folder: Path) -> list[Path]:
    return [pairs_folder / f"test-{index}.png" for index in range(5)]


def test_numpy_output_holds_the_same_numbers(model: Embedder, paths: list[Path]) -> None:
    images, texts = (
        model.encode_image(paths, output="numpy"),
        model.encode_text("a", output="numpy"),
    )
    assert isinstance(images, np.ndarray)
    assert images.dtype == np.float32
    assert np.array_equal(images, model.encode_image(paths).numpy())
    assert np.array_equal(texts, model.encode_text("a").numpy())


def test_progress_is_shown_on_stderr_and_only_when_asked_for(
    model: Embedder, paths: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = model.encode_image(paths)
    assert capsys.readouterr() == ("", "")
    assert torch.equal(model.encode_image(paths, progress=True), silent)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding images" in err
    assert "5/5" in err
    model.encode_text(TEXTS, progress=True)
    assert "encoding texts" in capsys.readouterr().err


def test_parts_on_several_cores_give_what_one_core_gives(
    model: Embedder, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five items on two workers are parts of three and two."""
    images, texts = model.encode_image(paths), model.encode_text(TEXTS)
    monkeypatch.setattr(batches.torch, "get_num_threads", lambda: 2)
    assert batches._parts(model.backend, 5, 256, 64) == [slice(0, 3), slice(3, 5)]
    assert torch.allclose(model.encode_image(paths), images, atol=1e-5)
    assert torch.allclose(model.encode_text(TEXTS), texts, atol=1e-5)


def test_bfloat16_is_near_float32_and_gives_float32(
    tiny_run: Path, model: Embedder, paths: list[Path]
) -> None:
    rough = tijepa.load(tiny_run, precision="bfloat16")
    for exact, near in (
        (model.encode_image(paths), rough.encode_image(paths)),
        (model.encode_text(TEXTS), rough.encode_text(TEXTS)),
    ):
        assert near.dtype == torch.float32
        assert not torch.equal(near, exact)
        assert float((near * exact).sum(dim=1).min()) > 0.99
    with pytest.raises(ConfigError, match="int8 is for backend='onnx'"):
        tijepa.load(tiny_run, precision="int8")


def test_what_is_unknown_is_an_error_of_one_line(tiny_run: Path) -> None:
    calls = (
        'tijepa.load(RUN, backend="tf")',
        'tijepa.load(RUN, precision="half")',
        'tijepa.load(RUN).encode_text([], output="list")',
    )
    assert complaints(tiny_run, calls) == [
        "backend 'tf' is unknown; known: torch, onnx",
        "precision 'half' is unknown; known: float32, bfloat16, int8",
        "output 'list' is unknown; known: torch, numpy",
    ]


# --- classify ---------------------------------------------------------------------------------


def test_probabilities_of_labels_are_a_softmax_of_mean_logits(
    model: Embedder, paths: list[Path]
) -> None:
    """By hand: logit of a label = mean of −slope · E over its prompts, E as images find texts."""
    labels = {"red": ["a red ball", "a red cube"], "blue": "a blue ball", "none": ["x", "y", "z"]}
    found = model.classify(paths, labels)
    assert found.shape == (5, 3)
    match = model.match_among("text")
    assert match is not None
    e = model.embeddings(paths, ["a red ball", "a red cube", "a blue ball", "x", "y", "z"])
    energy = model.search_energies_of(e, "calibrated").texts
    logit = -match.slope * torch.stack(
        [energy[:, :2].mean(1), energy[:, 2], energy[:, 3:].mean(1)], dim=1
    )
    assert torch.allclose(found, logit.exp() / logit.exp().sum(1, keepdim=True), atol=1e-5)


def test_of_two_labels_the_odds_are_the_ratio_of_the_odds_of_match(
    model: Embedder, paths: list[Path]
) -> None:
    """One prompt each: p / (1 − p) = o_a / o_b with o = P(match) / (1 − P(match))."""
    found = model.classify(paths, {"a": "a red ball", "b": "a blue cube"})
    of_energy = model.match_among("text")
    assert of_energy is not None
    e = model.embeddings(paths, ["a red ball", "a blue cube"])
    match = of_energy.probability(model.search_energies_of(e, "calibrated").texts.double())
    odds = match / (1 - match)
    expected = odds[:, 0] / (odds[:, 0] + odds[:, 1])
    assert torch.allclose(found[:, 0].double(), expected, atol=1e-4)


def test_what_cannot_be_classified_is_refused(model: Embedder, paths: list[Path]) -> None:
    with pytest.raises(DataError, match="there are no labels"):
        model.classify(paths, {})
    with pytest.raises(DataError, match="label 'a' has no prompt"):
        model.classify(paths, {"a": []})
    with pytest.raises(ConfigError, match=r"no probability of match.*classify\(\) needs one"):
        model.calibrated_by(None).classify(paths, {"a": "a ball"})
