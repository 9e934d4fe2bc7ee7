"""A trained model as people use it: images and texts in, embeddings and energies out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, get_args, overload

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tijepa.data.features import Features, Modality
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError, DataError
from tijepa.inference.backend import Backend, Precision, TorchBackend, check_known
from tijepa.inference.calibration import Calibration, Matches, joint_rows, search_energies
from tijepa.inference.embeddings import (
    Embedded,
    Embeddings,
    Form,
    PairForm,
    SearchEnergies,
    pair_features,
)
from tijepa.inference.fine import FineScorer
from tijepa.inference.hub.model_card import read_provenance
from tijepa.inference.hub.transfer import upload, write_model
from tijepa.inference.inputs import (
    Encoding,
    ImageLike,
    Images,
    Output,
    Texts,
    as_output,
    energy_of_labels,
    image_inputs,
    image_list,
    occluded,
    occlusion_masks,
    prompt_list,
    text_list,
)
from tijepa.inference.match_probability import MatchProbability, known_match
from tijepa.inference.parallel import encode_images, encode_pairs, encode_texts
from tijepa.io.progress import SILENT, StderrReporter
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel


class Embedder:
    """Context encoders, heads and pooled predictors of a trained model, ready for use.

    `calibration` is None for a checkpoint between two evaluations, or where training had no pairs;
    then there is no calibrated energy. Results lie on the CPU and carry no gradient. Embeddings of
    an item do not depend on the others of its call.
    """

    def __init__(
        self,
        model: TextImageModel | Backend,
        tokenizer: Tokenizer,
        card: ModelCard,
        calibration: Calibration | None = None,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "float32",
        origin: Path | None = None,
    ) -> None:
        self.backend: Backend = (
            TorchBackend(model, device, precision) if isinstance(model, TextImageModel) else model
        )
        self.tokenizer = tokenizer
        self.card = card
        self.calibration = calibration
        self.origin = origin

    @property
    def model(self) -> TextImageModel:
        """The model in torch; `ConfigError` where onnxruntime runs it."""
        return self._in_torch.model

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.backend.device

    @property
    def predicts(self) -> bool:
        """Whether the model was trained by prediction; without it embeddings are compared."""
        return self.backend.predicts

    @overload
    def encode_image(
        self, images: Images | Features, *, output: Literal["torch"] = ..., **how: Unpack[Encoding]
    ) -> Tensor: ...

    @overload
    def encode_image(
        self, images: Images | Features, *, output: Literal["numpy"], **how: Unpack[Encoding]
    ) -> NDArray[np.float32]: ...

    def encode_image(
        self,
        images: Images | Features,
        *,
        form: Form | None = None,
        batch_size: int = 256,
        progress: bool = False,
        output: Output = "torch",
    ) -> Float[Tensor, "i j"] | Float[np.ndarray, "i j"]:
        """Joint embeddings of one or more images, one row each, of length j, which is 2 D or more.

        An image is a PIL image, a path, the bytes of an image file, a file opened to read bytes, a
        uint8 array (height, width, 3) or a tensor (3, height, width), uint8 or float in [0, 1]; an
        array or a tensor with a further axis in front is several. The largest centred square of
        each is used. `form` is as in `energy`, by default the one that results are reported by.
        With "calibrated" `-encode_image(x) @ encode_text(y).T` is the calibrated energy of a pair
        (nearly so where rows are compressed). To find images by a text take the first half of both
        rows, to find texts by an image the second half: the largest inner products are best
        (`inference/calibration.py`). With "cosine" rows have length 1 and
        `1 - encode_image(x) @ encode_text(y).T` is the cosine energy; with "squared_l2" half the
        squared distance of two rows, divided by D, is the squared L2 energy.
        Without images the result has no rows. `Features` are what the model's frozen encoder gave
        of the images earlier; only a model in torch takes them.

        At most `batch_size` are encoded at once (on a CPU fewer, on every core at the same time).
        `progress` shows a bar on stderr; `output="numpy"` gives an array of float32. Raises
        `DataError` for an image that cannot be read, `ConfigError` for a form that is unknown or
        that the model lacks.
        """
        return as_output(self._joint("image", images, form, batch_size, progress), output)

    @overload
    def encode_text(
        self, texts: Texts | Features, *, output: Literal["torch"] = ..., **how: Unpack[Encoding]
    ) -> Tensor: ...

    @overload
    def encode_text(
        self, texts: Texts | Features, *, output: Literal["numpy"], **how: Unpack[Encoding]
    ) -> NDArray[np.float32]: ...

    def encode_text(
        self,
        texts: Texts | Features,
        *,
        form: Form | None = None,
        batch_size: int = 256,
        progress: bool = False,
        output: Output = "torch",
    ) -> Float[Tensor, "t j"] | Float[np.ndarray, "t j"]:
        """Joint embeddings of one or more texts, one row each; see `encode_image`.

        Texts beyond the model's `max_tokens` are cut. Raises `DataError` where one is no string.
        """
        return as_output(self._joint("text", texts, form, batch_size, progress), output)

    def encode_pair(
        self,
        images: Images,
        texts: Texts,
        *,
        features: Literal["fused", "joint"] | None = None,
        batch_size: int = 256,
    ) -> Float[Tensor, "n f"]:
        """Features of n pairs, one row each, for a classifier: image k with text k.

        "fused", of a model with a fusion, is the mean of the image tokens after they have read the
        text (arXiv 2503.06380). "joint" is `pair_features`, what all others give: f is 6 D, or 3 D
        without predictors (CLIP, SigLIP, VICReg). Images and texts as for `encode_image` and
        `encode_text`. Raises `DataError` where one cannot be read, or where there are not as many
        texts as images; `ConfigError` for fused features where no fusion runs, as in a graph.
        """
        if features == "fused" and not self.backend.fuses:
            raise ConfigError(
                "features 'fused' need a model with a fusion, which the task fusion_infill trains:"
                " use features='joint'"
            )
        listed, written = image_list(images), text_list(texts)
        if len(listed) != len(written):
            raise DataError(
                f"{len(listed)} images and {len(written)} texts are no pairs: give one text per"
                " image"
            )
        if self.backend.fuses and features != "joint":
            how = self._in_torch, self.card, self.tokenizer
            return encode_pairs(*how, listed, written, batch_size)
        e = self.embeddings(listed, written, batch_size=batch_size)
        return pair_features(e, predicts=self.predicts)

    def energy(
        self, images: Images, texts: Texts, *, form: PairForm | None = None, batch_size: int = 256
    ) -> Float[Tensor, "i t"]:
        """Energy of every image with every text; low = compatible.

        `form` is "calibrated" (nats; may be negative; the default where the model was trained by
        prediction and is calibrated), "cosine" (0 to 2; the default otherwise), "squared_l2", or
        "fine", word by word (`FineScorer`). `ConfigError` for one that the model lacks.
        """
        if form == "fine":
            return self.fine.energy(images, texts)
        form = form or self.default_form
        self.check_form(form)
        return self.energy_of(self.embeddings(images, texts, batch_size=batch_size), form)

    @property
    def fine(self) -> FineScorer:
        """The energy word by word; `ConfigError` where the model was not trained for it."""
        calibration = None if self.calibration is None else self.calibration.fine
        return FineScorer(self.model, self.tokenizer, self.card, calibration)

    def match_probability(
        self, images: Images, texts: Texts, *, prior: float = 0.5, batch_size: int = 256
    ) -> Float[Tensor, "i t"]:
        """Probability that each image and text belong together, from the default energy.

        `prior` is the share of matched pairs among those that are asked about. At 0.5 the question
        is "matched or shuffled, one as frequent as the other"; for the one right partner among n
        it is 1 / n. Fitted on held-out pairs of the training data; a model without such pairs
        raises `ConfigError`, as does a prior outside (0, 1).
        """
        match = known_match(self.match, "match_probability()")
        energy = self.energy(images, texts, batch_size=batch_size)
        return match.probability(energy, prior)

    @property
    def match(self) -> MatchProbability | None:
        """The map from the default energy to the probability of match, where there is one."""
        return None if self._matches is None else self._matches.pair

    def match_among(self, modality: Modality) -> MatchProbability | None:
        """The same from the energy that items of `modality` are found by, in the default form."""
        return None if self._matches is None else self._matches.among(modality)

    @property
    def _matches(self) -> Matches | None:
        return None if self.calibration is None else self.calibration.match

    def embeddings(self, images: Images, texts: Texts, *, batch_size: int = 256) -> Embeddings:
        """Pooled embeddings and predictions of i images and t texts, before any energy."""
        image = self._embedded("image", image_list(images), batch_size)
        return Embeddings.of(image, self._embedded("text", texts, batch_size))

    def embeddings_of_inputs(
        self,
        inputs: Float[Tensor, "i 3 s s"] | Features,
        texts: Sequence[str] | Features,
        *,
        batch_size: int = 256,
    ) -> Embeddings:
        """The same for images that are cropped and normalised already, as a loader gives them.

        `Features` of images or texts are what the model's frozen encoder gave earlier; only a model
        in torch takes them (`ConfigError`).
        """
        image = self._embedded("image", inputs, batch_size)
        return Embeddings.of(image, self._embedded("text", texts, batch_size))

    def classify(
        self, images: Images, labels: Mapping[str, str | Sequence[str]], *, batch_size: int = 256
    ) -> Float[Tensor, "i l"]:
        """Probability of each of l labels for each image; columns in the order of `labels`.

        `labels` maps a label to one or more prompts, such as `{"cat": ["a cat", "a photo of a
        cat"]}`. Each image is taken to have exactly one of the labels, all equally likely before
        it is seen. The log odds of a match, intercept − slope · E by the energy that finds texts
        for an image, are averaged over the prompts of a label and put through a softmax over the
        labels; the intercept cancels, and the slope says how far a difference is to be trusted.
        Raises `ConfigError` where the model has no probability of match, `DataError` where there
        are no labels or a label has no prompt.
        """
        match = known_match(self.match_among("text"), "classify()")
        prompts = prompt_list(labels)
        e = self.embeddings(images, [p for own in prompts for p in own], batch_size=batch_size)
        energy = self.search_energies_of(e, self.default_form).texts
        logit = -match.slope * energy_of_labels(energy, [len(own) for own in prompts])
        return torch.softmax(logit, dim=1)

    def energy_map(
        self, image: ImageLike, text: str, *, grid: int = 8, form: Form | None = None
    ) -> Float[Tensor, "g g"]:
        """Where in the image the text is: energies of grid x grid cells, low = here, row-major.

        A cell has the energy of the text with what an occlusion mask leaves of the image: a square
        of 1.5 cells a side around the cell; the rest has the image's median colour. It takes grid²
        images to encode, of the largest centred square. Raises `DataError` and `ConfigError`.
        """
        inputs = image_inputs([image], slice(0, 1), self.card)[0]
        return self.energy_maps_of_input(inputs, text_list([text]), grid=grid, form=form)[0]

    def energy_maps_of_input(
        self,
        image: Float[Tensor, "3 s s"],
        texts: Sequence[str],
        *,
        grid: int = 8,
        form: Form | None = None,
    ) -> Float[Tensor, "t g g"]:
        """The same for one cropped and normalised image and several texts, at the cost of one."""
        seen = occluded(image, occlusion_masks(self.card.image_size, grid))
        energy = self.energy_of(self.embeddings_of_inputs(seen, texts), form or self.default_form)
        return energy.T.reshape(len(texts), grid, grid)

    @property
    def forms(self) -> list[Form]:
        """The forms of energy that this model can compute, the default first."""
        plain: list[Form] = ["cosine", "squared_l2"]
        if self.calibration is None:
            return plain
        return ["calibrated", *plain] if self.predicts else [*plain, "calibrated"]

    @property
    def default_form(self) -> Form:
        """The form that retrieval is judged by."""
        return self.forms[0]

    def energy_of(self, e: Embeddings, form: Form) -> Float[Tensor, "i t"]:
        """Energy of embeddings computed before; `ConfigError` as in `energy`."""
        return self.search_energies_of(e, form).pair

    def search_energies_of(self, e: Embeddings, form: Form) -> SearchEnergies:
        """Energies that images and texts are found by: the calibrated one depends on who asks.

        Of embeddings computed before; `ConfigError` as in `energy`.
        """
        self.check_form(form)
        return search_energies(e, form, self.calibration)

    @property
    def _in_torch(self) -> TorchBackend:
        if not isinstance(self.backend, TorchBackend):
            raise ConfigError(
                "this needs the model in torch, and its graphs run in onnxruntime: load the run"
                " they were exported from, with backend='torch'"
            )
        return self.backend

    def calibrated_by(self, calibration: Calibration | None) -> Embedder:
        """The same model with another calibration."""
        return Embedder(self.backend, self.tokenizer, self.card, calibration, origin=self.origin)

    def save(self, folder: str | Path) -> Path:
        """Write the model, its tokenizer and its page `README.md` into `folder`; gives the folder.

        Safetensors and JSON only, for `tijepa.load(folder)`. The page states the data, objective,
        measured results and collapse report that the run's own files hold (`provenance.json` keeps
        them, without paths). A model that was saved there is replaced.
        Raises `CheckpointError` where the folder cannot be written, `ConfigError` where it holds
        other files and for a model that runs in onnxruntime.
        """
        parts = self.model, self.card, self.tokenizer, self.calibration
        return write_model(Path(folder), *parts, read_provenance(self.origin))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        message: str = "Add a tijepa model",
    ) -> str:
        """Save the model to the Hugging Face hub and return the address of its page.

        `repo_id` is "owner/name"; the repository is made where there is none. Then
        `tijepa.load("owner/name")` loads it anywhere. Raises `MissingExtraError` without the extra
        `hf`, `ConfigError` for a name that the hub does not allow, `CheckpointError` where the hub
        refuses or cannot be reached.
        """
        return upload(self.save, repo_id, private=private, token=token, message=message)

    def _joint(self, modality: Modality, items: Any, form: Form | None, *how: Any) -> Tensor:
        form = form or self.default_form
        self.check_form(form)
        if modality == "image" and not isinstance(items, Features):
            items = image_list(items)
        return joint_rows(modality, self._embedded(modality, items, *how), form, self.calibration)

    def _embedded(
        self, modality: Modality, items: Any, batch_size: int, progress: bool = False
    ) -> Embedded:
        """Of listed images, inputs or texts, or of features that their encoder gave earlier."""
        if isinstance(items, Features):
            return self._in_torch.encode(modality, items)
        reporter = StderrReporter() if progress else SILENT
        if modality == "image":
            return encode_images(self.backend, self.card, items, batch_size, reporter)
        texts = text_list(items)
        return encode_texts(self.backend, self.card, self.tokenizer, texts, batch_size, reporter)

    def check_form(self, form: str) -> None:
        """Raise `ConfigError` for a form that is unknown or that this model lacks."""
        check_known("form", form, get_args(Form))
        if form not in self.forms:
            raise ConfigError(
                "form 'calibrated' needs a calibration, which this model lacks: use form='cosine',"
                " or a checkpoint that was evaluated"
            )
