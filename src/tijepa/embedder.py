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

from tijepa.data.features import Features
from tijepa.data.images import centre_crop, decode_image, normalise, pixels_of, resize_crop
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, ConfigError, DataError
from tijepa.model.fusion import Fusion
from tijepa.model.saving import FROZEN, ModelCard, load_model, load_tensors, read_json
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.aperture import openings, through
from tijepa.objectives.calibration import Calibration, JointEmbeddings
from tijepa.objectives.embeddings import (
    Embeddings,
    cosine_energy,
    embed,
    pair_features,
    squared_l2_energy,
)
from tijepa.objectives.match import MatchProbability

__all__ = [
    "MODEL_FILES",
    "Embedder",
    "ImageLike",
    "checkpoint_folder",
    "load",
    "model_folder",
    "read_image",
]

MODEL_FILES = (
    "model.json",
    "model.safetensors",
    FROZEN,
    "tokenizer.json",
    "calibration.safetensors",
)

ImageLike = Image.Image | str | Path | np.ndarray | Tensor
Form = Literal["calibrated", "cosine", "squared_l2"]
FORMS = ("calibrated", "cosine", "squared_l2")


class Embedder:
    """Context encoders, heads and pooled predictors of a trained model, ready for use.

    `calibration` is None for a checkpoint between two evaluations, or where training had no pairs;
    then there is no calibrated energy. Results lie on the CPU and carry no gradient. Embeddings of
    an item do not depend on the others of its call.
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
        form: Form = "cosine",
        batch_size: int = 256,
    ) -> Float[Tensor, "i j"]:
        """Joint embeddings of one or more images, one row each, of length j = 2 D or 2 D + 2.

        An image is a PIL image, a path, a uint8 array (height, width, 3) or a tensor
        (3, height, width), uint8 or float in [0, 1]; an array or a tensor with a further axis in
        front is several. The largest centred square of each is used. With `form="cosine"` rows
        have length 1 and `1 - encode_image(x) @ encode_text(y).T` is the cosine energy; with
        `"squared_l2"` half the squared distance of two rows, divided by D, is the squared L2
        energy. With `"calibrated"` rows have 2 D + 2 numbers and
        `-encode_image(x) @ encode_text(y).T` is the calibrated energy, so an index of maximum
        inner products finds the lowest energies. Without images the result has no rows. Raises
        `DataError` for an image that cannot be read, `ConfigError` for a form that is unknown or
        that the model lacks.
        """
        self._check_form(form)
        pooled = self._pool_images(_image_list(images), batch_size)
        e = self._embed(pooled, torch.zeros(0, self.model.context.text.pooled_width))
        return self.joint_of(e, form).image

    def encode_text(
        self,
        texts: str | Sequence[str],
        *,
        form: Form = "cosine",
        batch_size: int = 256,
    ) -> Float[Tensor, "t j"]:
        """Joint embeddings of one or more texts, one row each; see `encode_image`.

        Texts beyond the model's `max_tokens` are cut. Raises `DataError` where one is no string.
        """
        self._check_form(form)
        pooled = self._pool_texts(_text_list(texts), batch_size)
        e = self._embed(torch.zeros(0, self.model.context.image.pooled_width), pooled)
        return self.joint_of(e, form).text

    def encode_pair(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        features: Literal["fused", "joint"] | None = None,
        batch_size: int = 256,
    ) -> Float[Tensor, "n f"]:
        """Features of n pairs, one row each, for a classifier: image k with text k.

        "fused" is the mean of the image tokens after they have read the text, of the width of the
        fusion, and what a model gives that has one (arXiv 2503.06380). "joint" is
        `tijepa.objectives.embeddings.pair_features`, what all others give: f is 6 D, or 3 D for a
        model without predictors (CLIP, SigLIP, VICReg). Images and texts are given as to
        `encode_image` and `encode_text`. Raises `DataError` where one cannot be read, or where
        there are not as many texts as images; `ConfigError` for fused features of a model that
        has no fusion.
        """
        fusion = self.model.context.fusion
        if features == "fused" and fusion is None:
            raise ConfigError(
                "features 'fused' need a model with a fusion, which the task fusion_infill trains:"
                " use features='joint'"
            )
        listed, written = _image_list(images), _text_list(texts)
        if len(listed) != len(written):
            raise DataError(
                f"{len(listed)} images and {len(written)} texts are no pairs: give one text per"
                " image"
            )
        if fusion is not None and features != "joint":
            return self._fuse(fusion, listed, written, batch_size)
        e = self.embeddings(listed, written, batch_size=batch_size)
        return pair_features(e, predicts=self.model.predictors is not None)

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
        Raises `ConfigError` for a form that is unknown or that the model lacks.
        """
        form = form or self.default_form
        self._check_form(form)
        return self.energy_of(self.embeddings(images, texts, batch_size=batch_size), form)

    def match_probability(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        prior: float = 0.5,
        batch_size: int = 256,
    ) -> Float[Tensor, "i t"]:
        """Probability that each image and text belong together, from the default energy.

        `prior` is the share of matched pairs among those that are asked about. At 0.5 the question
        is "matched or shuffled, one as frequent as the other"; for the one right partner among n
        it is 1 / n. Fitted on held-out pairs of the training data; a model without such pairs
        raises `ConfigError`, as does a prior outside (0, 1).
        """
        match = self.match
        if match is None:
            raise ConfigError(
                "this model has no probability of match, which is fitted on a validation split:"
                " use energy(), or train with validation pairs"
            )
        energy = self.energy(images, texts, batch_size=batch_size)
        return match.probability(energy, prior)

    @property
    def match(self) -> MatchProbability | None:
        """The map from the default energy to the probability of match, where there is one."""
        return None if self.calibration is None else self.calibration.match

    def embeddings(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: str | Sequence[str],
        *,
        batch_size: int = 256,
    ) -> Embeddings:
        """Pooled embeddings and predictions of i images and t texts, before any energy."""
        return self._embed(
            self._pool_images(_image_list(images), batch_size),
            self._pool_texts(_text_list(texts), batch_size),
        )

    def embeddings_of_inputs(
        self,
        inputs: Float[Tensor, "i 3 s s"] | Features,
        texts: Sequence[str] | Features,
        *,
        batch_size: int = 256,
    ) -> Embeddings:
        """The same for images that are cropped and normalised already, as a loader gives them.

        `Features` of images or texts are what the model's frozen encoder gave earlier.
        """
        _check_batch_size(batch_size)
        if isinstance(inputs, Features):
            image = inputs.pooled
        else:
            pooled = [torch.zeros(0, self.model.context.image.pooled_width)]
            for start in range(0, len(inputs), batch_size):
                pooled.append(self._pool_inputs(inputs[start : start + batch_size]))
            image = torch.cat(pooled)
        if isinstance(texts, Features):
            return self._embed(image, texts.pooled)
        return self._embed(image, self._pool_texts(list(texts), batch_size))

    def energy_map(
        self, image: ImageLike, text: str, *, grid: int = 8, form: Form | None = None
    ) -> Float[Tensor, "g g"]:
        """Where in the image the text is: energies of grid x grid cells, low = here, row-major.

        The energy of a cell is the energy of the text with what an opening of 1.5 cells a side,
        centred on the cell, shows of the image; the rest has the image's median colour. It takes
        grid² pictures to encode. `form` as in `energy`. The cells divide the largest centred
        square of the image. Raises `DataError`, and `ConfigError` for a grid out of bounds.
        """
        size = self.card.image_size
        inputs = _input(image, size, self.card.mean, self.card.std)
        return self.energy_maps_of_input(inputs, _text_list([text]), grid=grid, form=form)[0]

    def energy_maps_of_input(
        self,
        picture: Float[Tensor, "3 s s"],
        texts: Sequence[str],
        *,
        grid: int = 8,
        form: Form | None = None,
    ) -> Float[Tensor, "t g g"]:
        """The same for one cropped and normalised image and several texts, at the cost of one."""
        size = self.card.image_size
        if not 1 <= grid <= size // 2:
            raise ConfigError(
                f"grid is {grid}: it must lie between 1 and {size // 2}, half the model's image"
                " size in pixels"
            )
        views = through(picture, openings(size, grid))
        form = form or self.default_form
        energy = self.energy_of(self.embeddings_of_inputs(views, texts), form)
        return energy.T.reshape(len(texts), grid, grid)

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
        """Energy of embeddings computed before; `ConfigError` as in `energy`."""
        self._check_form(form)
        if form == "cosine":
            return cosine_energy(e)
        if form == "squared_l2":
            return squared_l2_energy(e)
        return self._calibration.energy(e)

    def joint_of(self, e: Embeddings, form: Form) -> JointEmbeddings:
        """Joint embeddings of what was embedded before, as `encode_image` and `encode_text` give.

        Raises `ConfigError` as they do.
        """
        self._check_form(form)
        if form == "calibrated":
            return self._calibration.joint(e)
        return JointEmbeddings(
            _joint(e.image, e.text_from_image, form), _joint(e.image_from_text, e.text, form)
        )

    @property
    def _calibration(self) -> Calibration:
        assert self.calibration is not None
        return self.calibration

    def _check_form(self, form: str) -> None:
        if form not in FORMS:
            raise ConfigError(f"form '{form}' is unknown; known: {', '.join(FORMS)}")
        if form not in self.forms:
            raise ConfigError(
                "form 'calibrated' needs a calibration, which this model lacks: use form='cosine',"
                " or a checkpoint that was evaluated"
            )

    @torch.no_grad()
    def _embed(self, image: Tensor, text: Tensor) -> Embeddings:
        self.model.eval()
        e = embed(self.model, image.to(self.device), text.to(self.device))
        return Embeddings(
            e.image.cpu(), e.text_from_image.cpu(), e.text.cpu(), e.image_from_text.cpu()
        )

    @torch.no_grad()
    def _pool_images(self, images: list[ImageLike], batch_size: int) -> Float[Tensor, "i p"]:
        _check_batch_size(batch_size)
        size = self.card.image_size
        pooled = [torch.zeros(0, self.model.context.image.pooled_width)]
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            inputs = torch.stack([_input(i, size, self.card.mean, self.card.std) for i in part])
            pooled.append(self._pool_inputs(inputs))
        return torch.cat(pooled)

    @torch.no_grad()
    def _fuse(
        self, fusion: Fusion, images: list[ImageLike], texts: list[str], batch_size: int
    ) -> Float[Tensor, "n f"]:
        _check_batch_size(batch_size)
        self.model.eval()
        card, encoders = self.card, self.model.context
        pooled = [torch.zeros(0, fusion.width)]
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            inputs = [_input(i, card.image_size, card.mean, card.std) for i in images[part]]
            tokens = self.tokenizer.encode(texts[part], card.max_tokens)
            image = encoders.image(torch.stack(inputs).to(self.device))
            text = encoders.text(tokens.ids.to(self.device), tokens.mask.to(self.device))
            pooled.append(fusion(image, text).pooled.cpu())
        return torch.cat(pooled)

    @torch.no_grad()
    def _pool_inputs(self, inputs: Float[Tensor, "i 3 s s"]) -> Float[Tensor, "i p"]:
        self.model.eval()
        pooled: Tensor = self.model.context.image(inputs.to(self.device)).pooled.cpu()
        return pooled

    @torch.no_grad()
    def _pool_texts(self, texts: list[str], batch_size: int) -> Float[Tensor, "t q"]:
        _check_batch_size(batch_size)
        self.model.eval()
        encoder = self.model.context.text
        # of similar length together, so that little is spent on padding
        order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
        pooled = torch.zeros(len(texts), encoder.pooled_width)
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

    `checkpoint` is "best", "last" or a step; without it the run's final model is taken, or while it
    is unfinished its best checkpoint, or its last where none is best. Raises `CheckpointError`, and
    `ConfigError` for a device that cannot be used.
    """
    place = _device(device)
    folder = model_folder(Path(run), checkpoint)
    model, card = load_model(folder)
    calibration = None
    if (folder / "calibration.safetensors").exists():
        calibration = _calibration(folder / "calibration.safetensors")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return Embedder(model.to(place), tokenizer, card, calibration, place)


def model_folder(run: Path, checkpoint: str | None = None) -> Path:
    """The folder under `run` that holds the wanted model; `CheckpointError` if there is none."""
    if not run.is_dir():
        raise CheckpointError(f"{run} is not a folder; give a run folder such as runs/demo")
    candidates: list[Path | None] = []
    if checkpoint is None:
        candidates = [run, run / "model"]
    for which in ("best", "last") if checkpoint is None else (checkpoint,):
        candidates.append(checkpoint_folder(run, which))
    for folder in candidates:
        if folder is not None and (folder / "model.json").exists():
            return folder
    held = _checkpoints(run)
    known = f"it has {', '.join(path.name for path in held)}" if held else "it has no checkpoints"
    raise CheckpointError(f"no model '{checkpoint or 'final'}' in {run}; {known}")


def checkpoint_folder(run: Path, which: str) -> Path | None:
    """The folder of the "best" or "last" checkpoint of a run, or of a step; None if there is none.

    Raises `CheckpointError` where `best.json` is damaged.
    """
    held = {path.name: path for path in _checkpoints(run)}
    if which == "last":
        return max(held.values(), key=lambda path: int(path.name[5:]), default=None)
    pointer = run / "checkpoints" / "best.json"
    if which != "best":
        return held.get(f"step-{int(which):08d}") if which.isdecimal() else None
    if not pointer.exists():
        return None
    best = read_json(pointer)
    if not isinstance(best, dict) or not isinstance(best.get("step"), int):
        raise CheckpointError(f"{pointer} is damaged: it names no step; delete it")
    return held.get(f"step-{best['step']:08d}")


def _checkpoints(run: Path) -> list[Path]:
    """Folders of complete checkpoints, oldest first."""
    return sorted(
        path
        for path in (run / "checkpoints").glob("step-*")
        if path.name[5:].isdecimal() and path.is_dir()
    )


def _calibration(path: Path) -> Calibration:
    try:
        return Calibration.from_state(load_tensors(path))
    except KeyError as error:
        raise CheckpointError(
            f"{path} is damaged: it lacks {error}; use another checkpoint"
        ) from None


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device '{device}' cannot be used here ({reason}); use cpu") from None
    return place


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")


def _text_list(texts: str | Sequence[str]) -> list[str]:
    listed = [texts] if isinstance(texts, str) else list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise DataError(f"text is {text!r}, not a string")
    return listed


def _image_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4:
        return list(images)
    if isinstance(images, (Image.Image, str, Path, np.ndarray, Tensor)):
        return [images]
    return list(images)


def _input(
    image: ImageLike, size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "3 s s"]:
    """Centre crop of whatever counts as an image, normalised."""
    pixels = _pixels(image, size)
    cut = resize_crop(pixels, centre_crop(*pixels.shape[:2]), size)
    return normalise(cut[None], mean, std)[0]


def _pixels(image: ImageLike, size: int) -> np.ndarray:
    """uint8 (height, width, 3)."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image), size)
    if isinstance(image, Image.Image):
        return pixels_of(image)
    if isinstance(image, Tensor):
        image = _from_tensor(image)
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"image is of type {type(image).__name__}; give a path, a PIL image, an array or a "
            "tensor"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"image is {image.dtype} {list(image.shape)} (height, width, channels); give uint8 "
            "(height, width, 3), or a tensor (3, height, width) of uint8 or of floats in [0, 1]"
        )
    return image


def read_image(path: Path, min_side: int = 0) -> np.ndarray:
    """Pixels uint8 (height, width, 3) of a file; the shorter side may shrink down to `min_side`.

    Raises `DataError` where it cannot be read.
    """
    try:
        return decode_image(path.read_bytes(), min_side=min_side)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}; check the path") from None
    except DataError as error:
        raise DataError(f"image {path}: {error}; replace the file") from None


def _from_tensor(image: Tensor) -> np.ndarray:
    """uint8 (height, width, 3) of a tensor (3, height, width)."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"image tensor is {list(image.shape)}; give (3, height, width)")
    image = image.detach().cpu()
    if image.is_floating_point():
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise DataError(
                f"image tensor has values from {float(image.min()):.3g} to "
                f"{float(image.max()):.3g}; give floats in [0, 1] or uint8"
            )
        image = (image.float() * 255).round().to(torch.uint8)
    return image.permute(1, 2, 0).numpy()


def _joint(own: Tensor, predicted_side: Tensor, form: str) -> Tensor:
    if form == "squared_l2":
        return torch.cat([own, predicted_side], dim=1)
    halves = [F.normalize(own, dim=1), F.normalize(predicted_side, dim=1)]
    return torch.cat(halves, dim=1) / 2**0.5
