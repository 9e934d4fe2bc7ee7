"""What runs a model: torch here, or onnxruntime on graphs that `tijepa export` wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.data.features import Features, Modality
from tijepa.errors import ConfigError
from tijepa.inference.embeddings import Embedded, Embeddings, embed
from tijepa.io.formatting import first_line
from tijepa.model.encoded import Encoded
from tijepa.model.mlp import NoTargetNorm
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
