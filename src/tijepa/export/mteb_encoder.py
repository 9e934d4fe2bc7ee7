"""A trained model as mteb's tasks use models, so that its image-text tasks can evaluate ours.

    import mteb, tijepa
    from tijepa.export.mteb_encoder import MtebEncoder

    mteb.evaluate(MtebEncoder(tijepa.load("runs/demo")), mteb.get_tasks(["CIFAR10ZeroShot"]))

It fulfils mteb's `EncoderProtocol` (mteb 2, `mteb/models/models_protocols.py`) without inheriting
from it. The similarity of an image and a text is 1 minus their cosine energy, or, with
`form="calibrated"`, minus their calibrated energy in nats, for tasks between images and texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.errors import ConfigError, DataError, MissingExtraError
from tijepa.inference.embedder import Embedder
from tijepa.version import __version__

_Form = Literal["cosine", "calibrated"]


class MtebEncoder:
    """`name` is "owner/name", under which mteb files the results.

    With `form="cosine"` rows are comparable within a modality as well. With "calibrated" only an
    image and a text are, and an item of both is refused. Raises `ConfigError` for another form, and
    for "calibrated" where the model was trained without calibration.
    """

    def __init__(
        self, model: Embedder, name: str = "tijepa/model", *, form: str = "cosine"
    ) -> None:
        if form not in get_args(_Form):
            raise ConfigError(f"form is {form!r}: must be 'cosine' or 'calibrated'")
        self.model = model
        self.name = name
        self.form = cast(_Form, form)
        self._width = model.encode_text([], form=self.form).shape[1]

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, batch_size: int = 256, **task: Any
    ) -> Float[np.ndarray, "n j"]:
        """Joint embeddings of the items of all batches, by cosine of length 1.

        A batch holds `image`, `text` or both; of an item with both it is the mean direction of the
        two. What mteb says of the task is of no use here: there are no prompts by task. Raises
        `DataError` where a batch has neither, or both and the form is "calibrated".
        """
        del task
        rows = [self._batch(batch, batch_size) for batch in inputs]
        array: np.ndarray = torch.cat(rows).numpy()
        return array

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, "n m"]:
        """Inner products: 1 minus the cosine energy, or minus the calibrated one."""
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
            embed_dim=self._width,
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
        parts: list[Tensor] = []
        how: dict[str, Any] = {"batch_size": batch_size, "form": self.form}
        if "image" in batch:
            parts.append(self.model.encode_image(list(batch["image"]), **how))
        if "text" in batch:
            parts.append(self.model.encode_text(list(batch["text"]), **how))
        if not parts:
            raise DataError(f"a batch of mteb holds {', '.join(batch)}: neither image nor text")
        if len(parts) == 1:
            return parts[0]
        if self.form == "calibrated":
            raise DataError(
                "a batch of mteb holds items of image and text: calibrated rows compare an image"
                " with a text; use form='cosine'"
            )
        return F.normalize(parts[0] + parts[1], dim=1)


def _rows(embeddings: Any) -> Tensor:
    """Rows as a tensor; a single row becomes one."""
    rows = torch.as_tensor(embeddings)
    return rows[None] if rows.ndim == 1 else rows
