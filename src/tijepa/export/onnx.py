"""Export a run: graphs, the check of them against the model, and what int8 costs."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tijepa.config import load_config
from tijepa.data.features import MODALITIES
from tijepa.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from tijepa.evaluate.measure import EvaluationSet, evaluation_set, measure
from tijepa.export.graphs import (
    OPSET,
    ImageGraph,
    TextGraph,
    example_pixels,
    example_tokens,
    write_graph,
)
from tijepa.inference.backend import (
    EXPORT,
    EXPORT_FORMAT,
    Backend,
    OnnxBackend,
    TorchBackend,
    graph_name,
)
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embedded
from tijepa.inference.hub.model_card import PROVENANCE, read_provenance
from tijepa.inference.loading import load
from tijepa.inference.results import Retrieval
from tijepa.io.files import whole_folder, writing
from tijepa.io.formatting import without_nan
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import ModelCard, save_tensors, write_card, write_json
from tijepa.runs.record import open_run_data

_TRACED = 3  # items of the batch that is traced


def export_run(
    run: Path,
    out: Path,
    *,
    int8: bool = False,
    checkpoint: str | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write the model of `run` as ONNX into the new folder `out`; gives what `export.json` says.

    The graphs are compared with the model on batches and lengths other than the traced ones, and
    `max_abs_difference` is stated; above `bound` nothing is written. With `int8` there are
    quantised graphs beside them, and `recall_lost`, measured on held-out pairs of the run's data,
    or null and a line that says why. Raises `ConfigError` where `out` is taken, `CheckpointError`,
    `MissingExtraError`.
    """
    _check_free(out)
    embedder = load(run, checkpoint=checkpoint)
    with whole_folder(out) as folder:
        said = _write(embedder, folder, reporter)
        if int8:
            said = _write_int8(embedder, folder, run, said, reporter)
        write_json(said, folder / EXPORT)
    return said


def _write(embedder: Embedder, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Float32 graphs and what is needed to use them, checked."""
    card, model = embedder.card, embedder.model
    vocabulary = embedder.tokenizer.vocab_size
    ids, mask = example_tokens(vocabulary, _TRACED, card.max_tokens)
    with reporter.phase("exporting the image encoder"):
        pixels = {"pixels": example_pixels(card, _TRACED)}
        write_graph(ImageGraph(model), pixels, folder / graph_name("image", "float32"))
    with reporter.phase("exporting the text encoder"):
        tokens = {"ids": ids, "mask": mask}
        write_graph(TextGraph(model), tokens, folder / graph_name("text", "float32"))
    with writing(folder):
        embedder.tokenizer.save(folder / "tokenizer.json")
    write_card(card, folder)
    if embedder.calibration is not None:
        save_tensors(embedder.calibration.state(), folder / "calibration.safetensors")
    write_json(read_provenance(embedder.origin).to_json(), folder / PROVENANCE)
    none = {m: embedder.backend.none(m) for m in MODALITIES}
    said: dict[str, Any] = {
        "format": EXPORT_FORMAT,
        "precisions": ["float32"],
        "dim": none["image"].embedding.shape[1],
        "pooled_widths": {m: e.pooled.shape[1] for m, e in none.items() if e.pooled is not None},
        "predicts": embedder.predicts,
        "opset": OPSET,
        "torch": torch.__version__,
    }
    write_json(said, folder / EXPORT)
    with reporter.phase("comparing the graphs with the model"):
        found = parity(_torch(embedder), _backend(folder, "float32"), card, vocabulary)
    check_parity(found)
    return said | {"max_abs_difference": found.max_abs_difference, "bound": found.bound}


def _write_int8(
    embedder: Embedder, folder: Path, run: Path, said: dict[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Quantised graphs, how far they are from the model, and what they cost on held-out pairs.

    Gives `said` with that added.
    """
    with reporter.phase("quantising"):
        for modality in MODALITIES:
            quantise(
                folder / graph_name(modality, "float32"), folder / graph_name(modality, "int8")
            )
    said = {**said, "precisions": ["float32", "int8"]}
    write_json(said, folder / EXPORT)
    backend = _backend(folder, "int8")
    card, vocabulary = embedder.card, embedder.tokenizer.vocab_size
    difference = parity(_torch(embedder), backend, card, vocabulary).max_abs_difference
    pairs = _held_out(run, reporter)
    if pairs is None:
        return {**said, "int8": {"max_abs_difference": difference, "recall_lost": None}}
    with reporter.phase("measuring what int8 costs"):
        quantised = Embedder(backend, embedder.tokenizer, card, embedder.calibration)
        before = measure(embedder, pairs).results.retrieval
        after = measure(quantised, pairs).results.retrieval
    assert before is not None
    assert after is not None
    found = {"max_abs_difference": difference, "recall_lost": _lost(before, after)}
    measured = {"float32": asdict(before), "quantised": asdict(after)}
    return {**said, "int8": without_nan(found | measured)}


def _lost(before: Retrieval, after: Retrieval) -> dict[str, float]:
    """Recall at 1, 5 and 10 that is lost, the mean of both directions; below 0 it is gained."""
    both = [(before.directions[d], after.directions[d]) for d in before.directions]
    return {
        key: sum(getattr(b, key) - getattr(a, key) for b, a in both) / len(both)
        for key in ("recall_at_1", "recall_at_5", "recall_at_10")
    }


def _held_out(run: Path, reporter: Reporter) -> EvaluationSet | None:
    """Pairs of the run's test split, else validation; None, and a line that says why, without."""
    if not (run / "config.yaml").exists():
        reporter.say(f"recall of int8 not measured: {run} is no run folder, so its data is unknown")
        return None
    config = load_config(file=run / "config.yaml")
    data = config.data
    try:
        splits = open_run_data(config, run, reporter)
        split = "test" if "test" in splits.splits else "validation"
        return evaluation_set(
            splits.split(split),
            items=data.test_items,
            captions=data.eval_captions,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
        )
    except DataError as error:
        reporter.say(f"recall of int8 not measured: held-out pairs are not available ({error})")
        return None


def _torch(embedder: Embedder) -> TorchBackend:
    assert isinstance(embedder.backend, TorchBackend)
    return embedder.backend


def _backend(folder: Path, precision: Any) -> OnnxBackend:
    return OnnxBackend(folder, torch.device("cpu"), precision)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"`out` {out} is taken: name a new or an empty folder")


# Dynamic quantisation: weights and, as they come, activations of matrix products in 8 bits.

_PRODUCTS = ["MatMul", "Gemm"]


def quantise(graph: Path, out: Path) -> None:
    """Write `graph` with its matrix products of a constant in int8, one scale a column.

    Products that narrow stay in float32: the second one of an MLP reads what its activation
    function gives, where a few numbers are so large that one scale for all leaves the others none.
    Weights have 7 bits, for with 8 the sums of processors without VNNI overflow. Convolutions,
    attention and norms stay in float32 too: they are a small part of the work, and integer
    convolutions are slower than those in float32.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtraError(str(error.name), "onnx") from None
    model = onnx.load(str(graph))
    weights = _fold_transposes(model.graph)
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises preprocessing, which gains nothing here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_dynamic(
                model,
                out,
                op_types_to_quantize=_PRODUCTS,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[n.name for n in model.graph.node if _narrows(n, weights)],
                extra_options={"MatMulConstBOnly": True},
            )
    finally:
        logging.root.setLevel(level)


def _fold_transposes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Put transposes of constants, which several products share, into the constants.

    Gives the shapes of all constants by name. Products of a constant that is still to be transposed
    would stay in float32: all those of an encoder that sees five crops.
    """
    from onnx import numpy_helper

    held = {constant.name: constant for constant in graph.initializer}
    folded = [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in held]
    for node in folded:
        axes = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        turned = numpy_helper.to_array(held[node.input[0]]).transpose(axes).copy()
        held[node.output[0]] = numpy_helper.from_array(turned, node.output[0])
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(constant for name, constant in held.items() if name in used)
    return {name: tuple(constant.dims) for name, constant in held.items()}


def _narrows(node: Any, weights: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it is a product with a constant (n, k) that gives fewer numbers than it reads."""
    if node.op_type not in _PRODUCTS or len(weights.get(node.input[1], ())) != 2:
        return False
    reads, gives = weights[node.input[1]]
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return gives > reads if turned else reads > gives


# Whether a graph says what the model says: the largest difference over batches and lengths.

BOUND = 1e-4  # times the largest entry of an embedding, or 1 where that is smaller
_BATCHES = (1, 2, 5)  # none of them the batch that was traced, which is 3


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference of two backends, and how large it may be in float32."""

    max_abs_difference: float
    bound: float


def parity(torch_backend: TorchBackend, other: Backend, card: ModelCard, vocabulary: int) -> Parity:
    """Compare two backends of one model on noise and random tokens."""
    worst, scale = 0.0, 1.0
    for ours, theirs in _both(torch_backend, other, card, vocabulary):
        for a, b in ((ours.embedding, theirs.embedding), (ours.prediction, theirs.prediction)):
            found = float((a - b).abs().max())
            worst = max(worst, found if math.isfinite(found) else math.inf)
            scale = max(scale, float(a.abs().max()))
    return Parity(worst, BOUND * scale)


def check_parity(found: Parity) -> None:
    """Raise `CheckpointError` above the bound: graphs that say something else are of no use."""
    if found.max_abs_difference > found.bound:
        raise CheckpointError(
            "the exported graphs differ from the model by up to"
            f" {found.max_abs_difference:.2g}, more than {found.bound:.2g}: nothing was written,"
            " for an encoder of this model cannot be exported faithfully; use it in torch"
        )


def _both(
    one: TorchBackend, other: Backend, card: ModelCard, vocabulary: int
) -> Iterator[tuple[Embedded, Embedded]]:
    for seed, items in enumerate(_BATCHES, start=1):
        pixels = example_pixels(card, items, seed)
        yield one.encode("image", pixels), other.encode("image", pixels)
        length = max(1, card.max_tokens * seed // len(_BATCHES))
        tokens: tuple[Tensor, Tensor] = example_tokens(vocabulary, items, length, seed)
        yield one.encode("text", *tokens), other.encode("text", *tokens)
