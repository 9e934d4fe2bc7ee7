"""A trained model as mteb's tasks use models, so that its image-text tasks can evaluate ours.

    import mteb, tijepa
    from tijepa.export.mteb_encoder import MtebEncoder

    mteb.evaluate(MtebEncoder(tijepa.load("runs/demo")), mteb.get_tasks(["CIFAR10ZeroShot"]))

It fulfils mteb's `EncoderProtocol` (mteb 2, `mteb/models/models_protocols.py`) without inheriting
from it. The similarity of an image and a text is 1 minus their cosine energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.embedder import Embedder
from tijepa.errors import DataError, MissingExtraError
from tijepa.version import __version__

__all__ = ["MtebEncoder"]


class MtebEncoder:
    """`name` is "owner/name", under which mteb files the results."""

    def __init__(self, model: Embedder, name: str = "tijepa/model") -> None:
        self.model = model
        self.name = name

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, batch_size: int = 256, **task: Any
    ) -> Float[np.ndarray, "n j"]:
        """Joint embeddings of the items of all batches, of length 1.

        A batch holds `image`, `text` or both; of an item with both it is the mean direction of the
        two. What mteb says of the task is of no use here: there are no prompts by task. Raises
        `DataError` where a batch has neither.
        """
        del task
        rows = [self._batch(batch, batch_size) for batch in inputs]
        array: np.ndarray = torch.cat(rows).numpy()
        return array

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, "n m"]:
        """Inner products: 1 minus the cosine energy of every image and text."""
        return _rows(embeddings1) @ _rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, " n"]:
        """The same for aligned rows."""
        return (_rows(embeddings1) * _rows(embeddings2)).sum(dim=1)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside the results; `MissingExtraError` without the extra `mteb`."""
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError:
            raise MissingExtraError("mteb", "mteb") from None
        return ModelMeta(
            loader=None,
            name=self.name,
            revision=f"tijepa-{__version__}",
            release_date=None,
            languages=None,
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=self.model.card.max_tokens,
            embed_dim=2 * self.model.engine.no_image.own.shape[1],
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name=ScoringFunction.DOT_PRODUCT,
            use_instructions=False,
            training_datasets=None,
            modalities=["image", "text"],
        )

    def _batch(self, batch: Mapping[str, Any], batch_size: int) -> Tensor:
        parts = []
        if "image" in batch:
            parts.append(self.model.encode_image(list(batch["image"]), batch_size=batch_size))
        if "text" in batch:
            parts.append(self.model.encode_text(list(batch["text"]), batch_size=batch_size))
        if not parts:
            raise DataError(f"a batch of mteb holds {', '.join(batch)}: neither image nor text")
        return parts[0] if len(parts) == 1 else F.normalize(parts[0] + parts[1], dim=1)


def _rows(embeddings: Any) -> Tensor:
    """Rows as a tensor; a single row becomes one."""
    rows = torch.as_tensor(embeddings)
    return rows[None] if rows.ndim == 1 else rows
