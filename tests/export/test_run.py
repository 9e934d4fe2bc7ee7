from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from torch import nn

import tijepa
from tijepa.cli import main
from tijepa.cli.terminal import ConsoleReporter
from tijepa.errors import CheckpointError, ConfigError, MissingExtraError
from tijepa.export import onnx as run_module
from tijepa.export.graphs import ImageGraph, example_pixels, example_tokens, write_graph
from tijepa.export.onnx import BOUND, Parity, check_parity, export_run
from tijepa.model.encoded import Encoded
from tijepa.model.pretrained.vit import PretrainedViT
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel

TEXTS = ["a red ball", "", "ball " * 40, "a blue cube left of a green ball", "x"]


def test_the_folder_holds_graphs_and_what_is_needed_to_use_them(
    said: dict[str, Any], exported: Path
) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "image.onnx",
        "text.onnx",
        "image.int8.onnx",
        "text.int8.onnx",
        "export.json",
        "model.json",
        "tokenizer.json",
        "calibration.safetensors",
        "provenance.json",
    }
    written = json.loads((exported / "export.json").read_text())
    assert written == {k: v for k, v in said.items() if k != "folder"}
    assert written["max_abs_difference"] <= written["bound"]
    assert written["int8"]["max_abs_difference"] > written["max_abs_difference"]


def test_onnxruntime_gives_what_torch_gives_for_every_batch_and_length(
    exported: Path, tiny_run: Path
) -> None:
    ours, theirs = tijepa.load(tiny_run).backend, tijepa.load(exported, backend="onnx").backend
    card, vocabulary = tijepa.load(tiny_run).card, tijepa.load(tiny_run).tokenizer.vocab_size
    for items in (1, 2, 7):
        pixels = example_pixels(card, items, seed=items)
        a, b = ours.encode("image", pixels), theirs.encode("image", pixels)
        assert torch.allclose(a.embedding, b.embedding, atol=1e-5)
        assert torch.allclose(a.prediction, b.prediction, atol=1e-5)
    for items, length in ((1, 1), (3, 5), (2, 16)):
        tokens = example_tokens(vocabulary, items, length, seed=length)
        a, b = ours.encode("text", *tokens), theirs.encode("text", *tokens)
        assert torch.allclose(a.embedding, b.embedding, atol=1e-5)
        assert torch.allclose(a.prediction, b.prediction, atol=1e-5)


def test_the_same_calls_give_the_same_answers(
    exported: Path, tiny_run: Path, pairs_folder: Path
) -> None:
    paths = [pairs_folder / f"test-{index}.png" for index in range(5)]
    ours, theirs = tijepa.load(tiny_run), tijepa.load(exported, backend="onnx")
    for form in ours.forms:
        a, b = ours.encode_image(paths, form=form), theirs.encode_image(paths, form=form)
        assert torch.allclose(a, b, atol=1e-3 * float(a.abs().max()))
        texts = ours.encode_text(TEXTS, form=form), theirs.encode_text(TEXTS, form=form)
        assert torch.allclose(*texts, atol=1e-3 * float(texts[0].abs().max()))
    assert torch.allclose(
        ours.match_probability(paths, TEXTS), theirs.match_probability(paths, TEXTS), atol=1e-3
    )
    assert torch.allclose(
        ours.energy_map(paths[0], "a", grid=2, form="cosine"),
        theirs.energy_map(paths[0], "a", grid=2, form="cosine"),
        atol=1e-4,
    )
    assert theirs.encode_image([], form="cosine").shape == (0, 16)
    assert theirs.encode_text([], form="cosine").shape == (0, 16)


def test_int8_is_near_float32_and_its_cost_is_stated(
    said: dict[str, Any], exported: Path, tiny_run: Path
) -> None:
    """Recall lost is float32's less int8's, the mean of both directions."""
    exact = tijepa.load(tiny_run).encode_text(TEXTS)
    small = tijepa.load(exported, backend="onnx", precision="int8").encode_text(TEXTS)
    assert not torch.equal(exact, small)
    assert float((exact * small).sum(dim=1).min()) > 0.9
    found = said["int8"]
    for k in (1, 5, 10):
        key = f"recall_at_{k}"
        both = [
            found["float32"][d][key] - found["quantised"][d][key]
            for d in ("image_to_text", "text_to_image")
        ]
        assert found["recall_lost"][key] == pytest.approx(sum(both) / 2)


def test_graphs_that_differ_from_the_model_are_refused_and_nothing_is_left(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "write_graph", lambda graph, inputs, path: path.touch())
    monkeypatch.setattr(run_module, "_backend", lambda folder, precision: None)
    monkeypatch.setattr(run_module, "parity", lambda *_: Parity(0.5, BOUND))
    with pytest.raises(CheckpointError, match=r"differ from the model by up to 0\.5, more than"):
        export_run(tiny_run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_energies_that_are_no_numbers_do_not_pass_for_equal() -> None:
    with pytest.raises(CheckpointError, match="by up to inf"):
        check_parity(Parity(float("inf"), BOUND))


def test_a_taken_folder_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ConfigError, match="is taken: name a new or an empty folder"):
            export_run(tiny_run, out)
    assert (tmp_path / "mine").exists()


def test_products_that_narrow_stay_in_float32_and_shared_weights_do_not(tmp_path: Path) -> None:
    """Two products of one transposed weight that widens, and one of a weight that narrows."""
    wide, narrow = np.ones((12, 4), np.float32), np.ones((12, 4), np.float32)
    nodes = [
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["a"], name="first"),
        helper.make_node("MatMul", ["x", "turned"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "narrow"], ["y"], name="third"),
    ]
    constants = [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(narrow, "narrow")]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])] for name in ("x", "y")
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", *ends, constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "graph.onnx"))
    run_module.quantise(tmp_path / "graph.onnx", tmp_path / "int8.onnx")
    graph = onnx.load(str(tmp_path / "int8.onnx")).graph
    kinds = [node.op_type for node in graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul")) == (2, 1)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = [
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"x": x})[0]
        for name in ("graph.onnx", "int8.onnx")
    ]
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_without_the_runs_data_int8_says_that_it_was_not_measured(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    assert run_module._held_out(tmp_path, ConsoleReporter(console)) is None
    assert "recall of int8 not measured" in console.export_text()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_the_error_says_what_to_install(
    package: str, exported: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    def call() -> object:
        if package == "onnxruntime":
            return tijepa.load(exported, backend="onnx")
        return export_run(tiny_run, tmp_path / "out")

    with pytest.raises(MissingExtraError, match=rf"{package} .*pip install 'tijepa\[onnx\]'"):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "bfloat16"}, "precision is 'bfloat16': .* holds float32, int8"),
        ({"checkpoint": "best"}, "checkpoint 'best' has no effect"),
        ({"device": "meta"}, "device 'meta': backend='onnx' runs on cpu"),
    ],
)
def test_what_onnxruntime_does_not_do_is_refused(
    arguments: dict[str, Any], message: str, exported: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        tijepa.load(exported, backend="onnx", **arguments)


def test_a_folder_without_graphs_is_an_error(
    tiny_run: Path, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="holds no exported graphs"):
        tijepa.load(tiny_run, backend="onnx")
    with pytest.raises(CheckpointError, match="is not a folder; give one that tijepa export"):
        tijepa.load(tmp_path / "none", backend="onnx")
    damaged = Path(shutil.copytree(exported, tmp_path / "damaged"))
    (damaged / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"image\.onnx cannot be run"):
        tijepa.load(damaged, backend="onnx")
    (damaged / "export.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not of format 2"):
        tijepa.load(damaged, backend="onnx")


def test_a_model_in_onnxruntime_cannot_be_saved_as_safetensors(
    exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="this needs the model in torch"):
        tijepa.load(exported, backend="onnx").save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_command_states_the_difference(
    tiny_run: Path,
    tmp_path: Path,
    said: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_module, "export_run", lambda *_, **__: said)
    assert main(["export", str(tiny_run), "--out", str(tmp_path / "out"), "--int8"]) == 0
    out = capsys.readouterr().out
    assert f"largest difference from the model {said['max_abs_difference']:.2g}" in out
    assert "int8 loses, in points of recall on held-out pairs: R@1 " in out


def test_a_graph_that_cannot_take_its_inputs_is_an_error_that_names_their_shape(
    exported: Path,
) -> None:
    backend = tijepa.load(exported, backend="onnx").backend
    with pytest.raises(CheckpointError, match=r"cannot be run on pixels \[2, 3, 16, 16\]"):
        backend.encode("image", torch.zeros(2, 3, 16, 16))


def test_a_pretrained_vit_takes_batches_of_any_size_when_traced() -> None:
    """`len` of a tensor would fix the batch to the traced one, and torch refuses then."""
    vit = PretrainedViT(
        image_size=16, patch_size=8, width=64, depth=1, heads=1, mlp_ratio=1.0, class_token=True
    ).eval()
    batch = torch.export.Dim("batch", min=1)
    traced = torch.export.export(
        Tokens(vit), (torch.zeros(3, 3, 16, 16),), dynamic_shapes={"pixels": {0: batch}}
    )
    assert traced.module()(torch.zeros(5, 3, 16, 16)).shape == (5, 4, 64)


class Tokens(nn.Module):
    """The tokens alone, as a tensor."""

    def __init__(self, vit: PretrainedViT) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.vit(pixels).tokens


class FixedBatch(nn.Module):
    """An encoder of a stranger's that asks a tensor for its `len`."""

    frozen, grid, width, pooled_width = False, 1, 3, 3

    def forward(self, images: torch.Tensor) -> Encoded:
        pooled = images.mean(dim=(2, 3))
        position = torch.zeros(1, 1, dtype=torch.long).expand(len(images), 1)
        return Encoded(pooled[:, None], position, position == 0, pooled + 0.0 * position)


def test_an_encoder_that_fixes_the_batch_is_told_how_not_to(tmp_path: Path) -> None:
    card = ModelCard({}, "clip", image_size=8, max_tokens=4)
    text = {"vocab_size": 9, "max_tokens": 4, "width": 4, "depth": 1, "heads": 1}
    head = {"depth": 1, "hidden": 4, "norm": "batch"}
    encoders = {"image": FixedBatch(), "text": text, "head": head, "embed_dim": 4}
    model = TextImageModel(encoders=encoders, predictors=None, ema=False)
    inputs = {"pixels": example_pixels(card, 3)}
    with pytest.raises(CheckpointError, match=r"fixes dimension 0 of `pixels` at 3, as len\(\)"):
        write_graph(ImageGraph(model), inputs, tmp_path / "image.onnx")
    assert list(tmp_path.iterdir()) == []
