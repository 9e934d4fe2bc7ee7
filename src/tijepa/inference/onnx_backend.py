"""Graphs that `tijepa export` wrote, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tijepa.data.features import MODALITIES, Modality
from tijepa.errors import CheckpointError, ConfigError, MissingExtraError
from tijepa.inference.backend import Backend, Precision
from tijepa.inference.embeddings import Embedded
from tijepa.io.formatting import first_line
from tijepa.model.saving import read_card, read_json

EXPORT = "export.json"
EXPORT_FORMAT = 2
INPUTS = {"image": ("pixels",), "text": ("ids", "mask")}
OUTPUTS = ("pooled_embedding", "predicted_embedding", "pooled_token")


def graph_name(modality: str, precision: str) -> str:
    """The file of a graph: image.onnx, text.onnx, image.int8.onnx, text.int8.onnx."""
    return f"{modality}.onnx" if precision == "float32" else f"{modality}.{precision}.onnx"


class OnnxBackend(Backend):
    """Both graphs of an exported folder; a call uses one core, several calls several.

    Raises `CheckpointError` where the folder is no export or damaged, `ConfigError` for another
    device than the CPU or a precision that it was not exported in, `MissingExtraError`.
    """

    def __init__(self, folder: Path, device: torch.device, precision: Precision) -> None:
        if device.type != "cpu":
            raise ConfigError(f"device '{device}': backend='onnx' runs on cpu")
        said = _read_export(folder)
        held = said["precisions"]
        if precision not in held:
            raise ConfigError(
                f"precision is '{precision}': {folder} holds {', '.join(held)}; export it with"
                " `int8=True` for int8"
            )
        self.device = device
        self.precision = precision
        self._dim = int(said["dim"])
        self._widths = {name: int(width) for name, width in said["pooled_widths"].items()}
        self.predicts = bool(said["predicts"])
        # the graphs leave it out
        self.fuses = read_card(folder).arguments["encoders"].get("fusion") is not None
        self._sessions = {m: _session(folder / graph_name(m, precision)) for m in MODALITIES}

    def none(self, modality: Modality) -> Embedded:
        """See `Backend.none`."""
        embedding = torch.zeros(0, self._dim)
        return Embedded(embedding, embedding, torch.zeros(0, self._widths[modality]))

    def encode(self, modality: Modality, *inputs: Tensor) -> Embedded:
        """See `Backend.encode`; `CheckpointError` where the graph cannot take the inputs."""
        given = {
            name: x.contiguous().numpy() for name, x in zip(INPUTS[modality], inputs, strict=True)
        }
        try:
            found = self._sessions[modality].run(list(OUTPUTS), given)
        except Exception as error:  # noqa: BLE001 (the runtime raises classes of its own)
            shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in given.items())
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the exported graph cannot be run on {shapes}: {reason}; use backend='torch'"
            ) from None
        embedding, prediction, pooled = (torch.from_numpy(x) for x in found)
        return Embedded(embedding, prediction if self.predicts else embedding, pooled)


def _read_export(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give one that tijepa export wrote")
    path = folder / EXPORT
    if not path.exists():
        raise CheckpointError(
            f"{folder} holds no exported graphs: write some with tijepa export RUN --out FOLDER"
        )
    found = read_json(path)
    needed = {"precisions", "dim", "pooled_widths", "predicts"}
    if not isinstance(found, dict) or found.get("format") != EXPORT_FORMAT:
        raise CheckpointError(f"{path} is not of format {EXPORT_FORMAT}; export the run anew")
    if not needed <= found.keys():
        raise CheckpointError(f"{path} is damaged: it lacks {needed - found.keys()}; export anew")
    return found


def _session(path: Path) -> Any:
    """A session of one thread: parts of a call run beside each other (`inference.parallel`)."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not path.exists():
        raise CheckpointError(f"{path} is not there; export the run anew")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (the runtime raises classes of its own)
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be run: {reason}; export the run anew") from None
