"""A trained model as people use it: images and texts in, embeddings and energies out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tijepa.data.images import centre_crop, decode_image, normalise, resize_crop
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.model.saving import ModelCard, load_model, load_tensors, read_json
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.calibration import Calibration
from tijepa.objectives.embeddings import Embeddings, cosine_energy, embed, squared_l2_energy

__all__ = ["Embedder", "ImageLike", "load"]

ImageLike = Image.Image | str | Path | np.ndarray | Tensor
Form = Literal["calibrated", "cosine", "squared_l2"]


class Embedder:
    """Context encoders, heads and pooled predictors of a trained model, ready for use.

    `calibration` is None where the run was not evaluated yet; then there is no calibrated energy.
    """

    def __init__(
        self,
        model: TextImageModel,
        tokenizer: Tokenizer,
        card: ModelCard,
        calibration: Calibration | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.card = card
        self.calibration = calibration
        self.device = torch.device(device)

    def encode_image(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        form: Literal["cosine", "squared_l2"] = "cosine",
        batch_size: int = 256,
    ) -> Float[Tensor, "i 2*d"]:
        """Joint embeddings of one or more images, one row each.

        An image is a PIL image, a path, a uint8 array (height, width, 3) or a tensor
        (3, height, width), uint8 or float in [0, 1]. With `form="cosine"` rows have length 1 and
        `1 - encode_image(x) @ encode_text(y).T` is the cosine energy; with `"squared_l2"` half
        the squared distance of two rows, divided by D, is the squared L2 energy. Raises
        `DataError` for an image that cannot be read.
        """
        pooled = self._pool_images(_as_list(images), batch_size)
        width = self.model.context.text.width
        e = self._embed(pooled, pooled.new_zeros(0, width))
        return _joint(e.image, e.text_from_image, form)

    def encode_text(
        self,
        texts: str | Sequence[str],
        *,
        form: Literal["cosine", "squared_l2"] = "cosine",
        batch_size: int = 256,
    ) -> Float[Tensor, "t 2*d"]:
        """Joint embeddings of one or more texts, one row each; see `encode_image`."""
        pooled = self._pool_texts([texts] if isinstance(texts, str) else list(texts), batch_size)
        width = self.model.context.image.width
        e = self._embed(pooled.new_zeros(0, width), pooled)
        return _joint(e.image_from_text, e.text, form)

    def energy(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        form: Form | None = None,
        batch_size: int = 256,
    ) -> Float[Tensor, "i t"]:
        """Energy of every image with every text; low = compatible.

        `form` is "calibrated" (nats; may be negative; the default where the model was trained by
        prediction and is calibrated), "cosine" (0 to 2; the default otherwise) or "squared_l2".
        """
        e = self.embeddings(images, texts, batch_size=batch_size)
        return self.energy_of(e, form or self.default_form)

    def embeddings(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        batch_size: int = 256,
    ) -> Embeddings:
        """Pooled embeddings and predictions of i images and t texts, before any energy."""
        return self._embed(
            self._pool_images(_as_list(images), batch_size),
            self._pool_texts([texts] if isinstance(texts, str) else list(texts), batch_size),
        )

    def embeddings_of_inputs(
        self, inputs: Float[Tensor, "i 3 s s"], texts: Sequence[str], *, batch_size: int = 256
    ) -> Embeddings:
        """The same for images that are cropped and normalised already, as a loader gives them."""
        pooled = torch.cat([self._pool_inputs(part) for part in inputs.split(batch_size)])
        return self._embed(pooled, self._pool_texts(list(texts), batch_size))

    @property
    def forms(self) -> list[Form]:
        """The forms of energy that this model can compute, the default first."""
        plain: list[Form] = ["cosine", "squared_l2"]
        if self.calibration is None:
            return plain
        predicts = self.model.predictors is not None
        return ["calibrated", *plain] if predicts else [*plain, "calibrated"]

    @property
    def default_form(self) -> Form:
        """The form that retrieval is judged by."""
        return self.forms[0]

    def energy_of(self, e: Embeddings, form: Form) -> Float[Tensor, "i t"]:
        """Energy of embeddings computed before."""
        if form == "cosine":
            return cosine_energy(e)
        if form == "squared_l2":
            return squared_l2_energy(e)
        if form != "calibrated":
            raise ConfigError(f"form '{form}' is unknown; known: calibrated, cosine, squared_l2")
        if self.calibration is None:
            raise ConfigError(
                "this model has no calibration; use form='cosine' or evaluate the run"
            )
        return self.calibration.energy(e)

    @torch.inference_mode()
    def _embed(self, image: Tensor, text: Tensor) -> Embeddings:
        self.model.eval()
        e = embed(self.model, image.to(self.device), text.to(self.device))
        return Embeddings(
            e.image.cpu(), e.text_from_image.cpu(), e.text.cpu(), e.image_from_text.cpu()
        )

    @torch.inference_mode()
    def _pool_images(self, images: list[ImageLike], batch_size: int) -> Float[Tensor, "i p"]:
        size = self.card.image_size
        pooled = [torch.zeros(0, self.model.context.image.width)]
        for start in range(0, len(images), batch_size):
            inputs = torch.stack([_input(i, size) for i in images[start : start + batch_size]])
            pooled.append(self._pool_inputs(inputs))
        return torch.cat(pooled)

    @torch.inference_mode()
    def _pool_inputs(self, inputs: Float[Tensor, "i 3 s s"]) -> Float[Tensor, "i p"]:
        self.model.eval()
        pooled: Tensor = self.model.context.image(inputs.to(self.device)).pooled.cpu()
        return pooled

    @torch.inference_mode()
    def _pool_texts(self, texts: list[str], batch_size: int) -> Float[Tensor, "t q"]:
        self.model.eval()
        encoder = self.model.context.text
        # of similar length together, so that little is spent on padding
        order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
        pooled = torch.zeros(len(texts), encoder.width)
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            tokens = self.tokenizer.encode([texts[k] for k in rows], self.card.max_tokens)
            out = encoder(tokens.ids.to(self.device), tokens.mask.to(self.device))
            pooled[rows] = out.pooled.cpu()
        return pooled


def load(
    run: str | Path, *, checkpoint: str | None = None, device: torch.device | str = "cpu"
) -> Embedder:
    """Load a trained model from a run folder, one of its checkpoints, or a saved model folder.

    `checkpoint` is "best", "last" or a step; without it the run's final model is taken, or its
    best checkpoint while it is unfinished. Raises `CheckpointError`.
    """
    folder = model_folder(Path(run), checkpoint)
    model, card = load_model(folder)
    calibration = None
    if (folder / "calibration.safetensors").exists():
        calibration = Calibration.from_state(load_tensors(folder / "calibration.safetensors"))
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return Embedder(model.to(device), tokenizer, card, calibration, device)


def model_folder(run: Path, checkpoint: str | None = None) -> Path:
    """The folder under `run` that holds the wanted model."""
    if not run.is_dir():
        raise CheckpointError(f"{run} is not a folder; give a run folder such as runs/demo")
    if checkpoint is None:
        candidates = [run, run / "model", *_checkpoints(run, "best"), *_checkpoints(run, "last")]
    elif checkpoint in ("best", "last"):
        candidates = _checkpoints(run, checkpoint)
    else:
        candidates = (
            [run / "checkpoints" / f"step-{int(checkpoint):08d}"] if checkpoint.isdigit() else []
        )
    for folder in candidates:
        if (folder / "model.json").exists():
            return folder
    held = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    known = f"it has {', '.join(held)}" if held else "it has no checkpoints"
    raise CheckpointError(f"no model '{checkpoint or 'final'}' in {run}; {known}")


def _checkpoints(run: Path, which: str) -> list[Path]:
    """The best or last checkpoint's folder, if there is one."""
    pointer = run / "checkpoints" / f"{which}.json"
    if not pointer.exists():
        return []
    return [run / "checkpoints" / f"step-{int(read_json(pointer)['step']):08d}"]


def _as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    if isinstance(images, Tensor) and images.ndim == 4:
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if isinstance(images, (Image.Image, str, Path, np.ndarray, Tensor)):
        return [images]
    return list(images)


def _input(image: ImageLike, size: int) -> Float[Tensor, "3 s s"]:
    """Centre crop of whatever counts as an image, normalised."""
    pixels = _pixels(image, size)
    return normalise(resize_crop(pixels, centre_crop(*pixels.shape[:2]), size)[None])[0]


def _pixels(image: ImageLike, size: int) -> np.ndarray:
    if isinstance(image, (str, Path)):
        try:
            return decode_image(Path(image).read_bytes(), min_side=size)
        except OSError as error:
            raise DataError(f"cannot read image {image}: {error.strerror}") from None
        except DataError as error:
            raise DataError(f"image {image}: {error}") from None
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if isinstance(image, Tensor):
        if image.is_floating_point():
            image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        image = image.permute(1, 2, 0).cpu().numpy() if image.ndim == 3 else image.numpy()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"image is {image.dtype} {list(image.shape)}; give uint8 (height, width, 3) or a tensor "
            "(3, height, width)"
        )
    return image


def _joint(own: Tensor, predicted_side: Tensor, form: str) -> Tensor:
    if form == "squared_l2":
        return torch.cat([own, predicted_side], dim=1)
    if form != "cosine":
        raise ConfigError(f"form '{form}' is unknown; embeddings come as cosine or squared_l2")
    halves = [F.normalize(own, dim=1), F.normalize(predicted_side, dim=1)]
    return torch.cat(halves, dim=1) / 2**0.5
