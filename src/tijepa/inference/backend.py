"""What runs a model: torch here, or onnxruntime on graphs that `tijepa export` wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.data.features import MODALITIES, Features, Modality
from tijepa.errors import CheckpointError, ConfigError, MissingExtraError
from tijepa.inference.embeddings import Embedded, Embeddings, embed
from tijepa.io.formatting import first_line
from tijepa.model.encoded import Encoded
from tijepa.model.mlp import NoTargetNorm
from tijepa.model.saving import read_card, read_json
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.forward import encode_modality

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS = ("float32", "bfloat16", "int8")


class Backend(ABC):
    """Inputs in, embeddings on the CPU out. Calls from several threads at once are allowed.

    `predicts` is whether the model has predictors; without them `prediction` is `embedding`.
    `fuses` is whether it has a fusion, which reads image and text together.
    """

    device: torch.device
    precision: Precision
    predicts: bool
    fuses: bool

    @abstractmethod
    def encode(self, modality: Modality, *inputs: Tensor) -> Embedded:
        """Embed n items: cropped and normalised images (n, 3, s, s), or token ids (n, l) and their
        mask (n, l), which is False at padding.
        """

    @abstractmethod
    def none(self, modality: Modality) -> Embedded:
        """The embeddings of no items, as long as those of some."""

    def before_target_norm(
        self, e: Embeddings
    ) -> tuple[Float[Tensor, "i d"], Float[Tensor, "t d"]]:
        """The images' and texts' own embeddings as the heads give them; as they are outside torch.

        Collapse is read from these: a norm over items (`objective.pooled_target_norm`) takes away
        what makes a constant, so that `e` of a collapsed model may look well.
        """
        return e.image, e.text


class TorchBackend(Backend):
    """The model itself, on any device of torch.

    With precision "bfloat16" the encoders run under autocast; heads and predictors, which cost
    next to nothing, stay in float32.
    """

    def __init__(
        self, model: TextImageModel, device: torch.device | str, precision: Precision = "float32"
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(
                f"precision is '{precision}': the torch backend knows float32 and bfloat16; int8 is"
                " for backend='onnx'"
            )
        self.model = model
        self.device = torch.device(device)
        self.precision = precision
        self.predicts = model.predictors is not None
        self.fuses = model.context.fusion is not None
        # one at a time where the device is not the cores that prepare the inputs
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if self.device.type == "cpu" else Lock()
        )

    @torch.no_grad()
    def encode(self, modality: Modality, *inputs: Tensor | Features) -> Embedded:
        """See `Backend.encode`; also by the features that the encoder gave of the items earlier."""
        self.model.eval()
        with self._turn:
            pooled = self._encoded(modality, *inputs).pooled
            return embed(self.model, modality, pooled.float()).cpu()

    def none(self, modality: Modality) -> Embedded:
        """See `Backend.none`."""
        encoders = self.model.context
        width = (encoders.image if modality == "image" else encoders.text).pooled_width
        return self.encode(modality, Features(torch.zeros(0, width)))

    @torch.no_grad()
    def before_target_norm(
        self, e: Embeddings
    ) -> tuple[Float[Tensor, "i d"], Float[Tensor, "t d"]]:
        """See `Backend.before_target_norm`."""
        predictors, context = self.model.predictors, self.model.context
        if predictors is None or isinstance(predictors.image_norm, NoTargetNorm):
            return e.image, e.text
        assert e.image_pooled is not None
        assert e.text_pooled is not None
        self.model.eval()
        image = context.embed_image(e.image_pooled.to(self.device))
        return image.cpu(), context.embed_text(e.text_pooled.to(self.device)).cpu()

    @torch.no_grad()
    def pairs(
        self, images: Float[Tensor, "n 3 s s"], ids: Int[Tensor, "n l"], mask: Bool[Tensor, "n l"]
    ) -> Float[Tensor, "n f"]:
        """The mean of the image tokens that have read the text; of a model that has a fusion."""
        self.model.eval()
        assert self.model.context.fusion is not None
        with self._turn, self._autocast():
            image, text = self._encoded("image", images), self._encoded("text", ids, mask)
            pooled: Tensor = self.model.context.fusion(image, text).pooled
        return pooled.float().cpu()

    def _encoded(self, modality: Modality, *inputs: Tensor | Features) -> Encoded:
        with self._autocast():
            return encode_modality(
                self.model.context, modality, *(x.to(self.device) for x in inputs)
            )

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def check_known(what: str, value: str, known: Sequence[str]) -> None:
    """Raise `ConfigError`, which lists what is known, for another value."""
    if value not in known:
        raise ConfigError(f"{what} '{value}' is unknown; known: {', '.join(known)}")


def usable_device(device: torch.device | str) -> torch.device:
    """The device; `ConfigError` where it cannot be used here."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(f"device '{device}' cannot be used here ({reason}); use cpu") from None
    return place


# Graphs that `tijepa export` wrote, run by onnxruntime on the CPU.


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
