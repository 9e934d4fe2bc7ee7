"""What runs a model: torch here, or onnxruntime on graphs that `tijepa export` wrote."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.inference.embeddings import Embedded, embed_image, embed_text
from tijepa.io.formatting import first_line
from tijepa.model.text_image_model import TextImageModel

__all__ = ["PRECISIONS", "Backend", "Precision", "TorchBackend", "usable_device"]

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS = ("float32", "bfloat16", "int8")


class Backend(ABC):
    """Inputs in, embeddings on the CPU out. Calls from several threads at once are allowed."""

    device: torch.device
    precision: Precision

    @property
    @abstractmethod
    def predicts(self) -> bool:
        """Whether the model has predictors; without them `predicted` is `own`."""

    @property
    @abstractmethod
    def fuses(self) -> bool:
        """Whether the model has a fusion, which reads image and text together."""

    @property
    @abstractmethod
    def no_image(self) -> Embedded:
        """The embeddings of no images, as long as those of some."""

    @property
    @abstractmethod
    def no_text(self) -> Embedded:
        """The same for texts."""

    @abstractmethod
    def images(self, inputs: Float[Tensor, "i 3 s s"]) -> Embedded:
        """Embed cropped and normalised images."""

    @abstractmethod
    def texts(self, ids: Int[Tensor, "t n"], mask: Bool[Tensor, "t n"]) -> Embedded:
        """Embed token ids; `mask` is False at padding."""


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
        self.precision: Precision = precision
        # one at a time where the device is not the cores that prepare the inputs
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if self.device.type == "cpu" else Lock()
        )

    @property
    def predicts(self) -> bool:
        """Whether the model has predictors."""
        return self.model.predictors is not None

    @property
    def fuses(self) -> bool:
        """Whether the model has a fusion, which reads image and text together."""
        return self.model.context.fusion is not None

    @property
    def no_image(self) -> Embedded:
        """The embeddings of no images, as long as those of some."""
        return self.image_features(torch.zeros(0, self.model.context.image.pooled_width))

    @property
    def no_text(self) -> Embedded:
        """The same for texts."""
        return self.text_features(torch.zeros(0, self.model.context.text.pooled_width))

    @torch.no_grad()
    def images(self, inputs: Float[Tensor, "i 3 s s"]) -> Embedded:
        """Embed cropped and normalised images."""
        self.model.eval()
        with self._turn:
            with self._autocast():
                pooled = self.model.context.image(inputs.to(self.device)).pooled
            return _on_cpu(embed_image(self.model, pooled.float()))

    @torch.no_grad()
    def texts(self, ids: Int[Tensor, "t n"], mask: Bool[Tensor, "t n"]) -> Embedded:
        """Embed token ids; `mask` is False at padding."""
        self.model.eval()
        with self._turn:
            with self._autocast():
                pooled = self.model.context.text(ids.to(self.device), mask.to(self.device)).pooled
            return _on_cpu(embed_text(self.model, pooled.float()))

    @torch.no_grad()
    def image_features(self, pooled: Float[Tensor, "i p"]) -> Embedded:
        """Embed images by what the image encoder pooled of them earlier."""
        self.model.eval()
        with self._turn:
            return _on_cpu(embed_image(self.model, pooled.to(self.device)))

    @torch.no_grad()
    def text_features(self, pooled: Float[Tensor, "t q"]) -> Embedded:
        """Embed texts by what the text encoder pooled of them earlier."""
        self.model.eval()
        with self._turn:
            return _on_cpu(embed_text(self.model, pooled.to(self.device)))

    @torch.no_grad()
    def pairs(
        self,
        inputs: Float[Tensor, "n 3 s s"],
        ids: Int[Tensor, "n l"],
        mask: Bool[Tensor, "n l"],
    ) -> Float[Tensor, "n f"]:
        """The mean of the image tokens that have read the text; of a model that has a fusion."""
        self.model.eval()
        encoders = self.model.context
        assert encoders.fusion is not None
        with self._turn, self._autocast():
            image = encoders.image(inputs.to(self.device))
            text = encoders.text(ids.to(self.device), mask.to(self.device))
            pooled: Tensor = encoders.fusion(image, text).pooled
        return pooled.float().cpu()

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def usable_device(device: torch.device | str) -> torch.device:
    """The device; `ConfigError` where it cannot be used here."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(f"device '{device}' cannot be used here ({reason}); use cpu") from None
    return place


def _on_cpu(e: Embedded) -> Embedded:
    return Embedded(
        e.own.cpu(), e.predicted.cpu(), None if e.pooled is None else e.pooled.float().cpu()
    )
