"""One ONNX graph per modality: encoder, head, target norm and predictor, with any batch and length.

    image.onnx  pixels (b, 3, s, s) float32
    text.onnx   ids (b, n) int64, mask (b, n) bool

Both give pooled_embedding (b, d), which is what predictions are compared with (z, normalised as the
targets of training), and predicted_embedding (b, d), which is g(z), what the item predicts of the
other modality. Without predictors both are z. The third is pooled_token (b, p), the encoder's,
which the calibrated energy reads beside them.
"""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.data.features import Modality
from tijepa.errors import CheckpointError, MissingExtraError
from tijepa.inference.backend import OUTPUTS
from tijepa.inference.embeddings import embed
from tijepa.io.formatting import first_line
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.model.transformer import Transformer
from tijepa.objectives.forward import encode_modality

OPSET = 20


class ImageGraph(nn.Module):
    """Pixels to embedding, prediction and pooled token."""

    def __init__(self, model: TextImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixels: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"], Float[Tensor, "b p"]]:
        """Embedding, prediction and pooled token."""
        return _outputs(self.model, "image", pixels)


class TextGraph(nn.Module):
    """Token ids to embedding, prediction and pooled token."""

    def __init__(self, model: TextImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"], Float[Tensor, "b p"]]:
        """Embedding, prediction and pooled token."""
        return _outputs(self.model, "text", ids, mask)


def _outputs(
    model: TextImageModel, modality: Modality, *inputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """In the order of `OUTPUTS`."""
    pooled = encode_modality(model.context, modality, *inputs).pooled
    e = embed(model, modality, pooled)
    return e.embedding, e.prediction, pooled


def example_pixels(card: ModelCard, items: int, seed: int = 0) -> Tensor:
    """Images of noise, normalised to about [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(items, 3, card.image_size, card.image_size, generator=generator) * 2 - 1


def example_tokens(
    vocabulary: int, items: int, length: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random ids of texts of 1 to `length` tokens, the first as long as that, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (items, length), generator=generator)
    lengths = torch.randint(1, length + 1, (items, 1), generator=generator)
    lengths[0] = length
    mask = torch.arange(length)[None] < lengths
    return ids.masked_fill(~mask, 0), mask


def write_graph(graph: ImageGraph | TextGraph, inputs: dict[str, Tensor], path: Path) -> None:
    """Export by tracing with `inputs`; batches of any size and texts of any length go through it.

    Raises `MissingExtraError` without the extra `onnx`, `CheckpointError` where an encoder holds
    what ONNX cannot express or fixes a size that may vary.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise MissingExtraError(str(error.name), "onnx") from None
    padded = _without_packing(graph)
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    shapes: dict[str, Any] = {
        name: {0: batch, 1: length} if value.ndim == 2 else {0: batch}
        for name, value in inputs.items()
    }
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                padded,
                kwargs=inputs,
                input_names=list(inputs),
                output_names=list(OUTPUTS),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = first_line(error)
        raise CheckpointError(f"{path.stem} encoder cannot be written as ONNX: {reason}") from error
    assert program is not None
    for given in program.model_proto.graph.input:
        name, sizes = given.name, given.type.tensor_type.shape.dim
        for dim in shapes[name]:
            if not sizes[dim].dim_param:
                raise CheckpointError(
                    f"{path.stem} encoder cannot be written as ONNX: it fixes dimension {dim} of"
                    f" `{name}` at {inputs[name].shape[dim]}, as len() of a tensor does; let its"
                    f" forward() read the size from `shape[{dim}]`"
                )
    onnx.save(program.model_proto, str(path))


def _without_packing(graph: ImageGraph | TextGraph) -> nn.Module:
    """A copy in evaluation mode that keeps its padding: packed shapes would depend on the data."""
    padded = copy.deepcopy(graph).eval()
    for part in padded.modules():
        if isinstance(part, Transformer):
            part.packs = False
    return padded
