"""The forms of energy: of embeddings, and as inner products or distances of joint embeddings."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features import Modality
from tijepa.inference.calibration import Calibration
from tijepa.inference.embeddings import Embedded, Embeddings, SearchEnergies

Form = Literal["calibrated", "cosine", "squared_l2"]


def search_energies(e: Embeddings, form: Form, calibration: Calibration | None) -> SearchEnergies:
    """Energies that images and texts are found by: the calibrated one depends on who asks."""
    if form == "calibrated":
        assert calibration is not None
        return calibration.search_energies(e)
    energy = cosine_energy(e) if form == "cosine" else squared_l2_energy(e)
    return SearchEnergies(energy, energy)


def joint_rows(
    modality: Modality, e: Embedded, form: Form, calibration: Calibration | None
) -> Float[Tensor, "n j"]:
    """Joint embeddings of n items, as `Embedder.encode_image` and `encode_text` give them."""
    if form == "calibrated":
        assert calibration is not None
        return calibration.rows(modality, e)
    halves = (e.embedding, e.prediction) if modality == "image" else (e.prediction, e.embedding)
    if form == "squared_l2":
        return torch.cat(halves, dim=1)
    return torch.cat([F.normalize(half, dim=1) for half in halves], dim=1) / 2**0.5


def joint_of(
    e: Embeddings, form: Form, calibration: Calibration | None
) -> tuple[Float[Tensor, "i j"], Float[Tensor, "t j"]]:
    """The same of images and of texts that were embedded together."""
    image = joint_rows("image", e.of_images, form, calibration)
    return image, joint_rows("text", e.of_texts, form, calibration)


def squared_l2_energy(e: Embeddings) -> Float[Tensor, "i t"]:
    """½ (‖z_I − g(z_T)‖² + ‖g(z_I) − z_T‖²) / d for every image and text."""
    distance = torch.cdist(e.joint_image, e.joint_text, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square() / (2 * e.image.shape[1])


def cosine_energy(e: Embeddings) -> Float[Tensor, "i t"]:
    """½ (1 − cos(z_I, g(z_T)) + 1 − cos(g(z_I), z_T)) for every image and text, from 0 to 2."""
    to_image = F.normalize(e.image, dim=1) @ F.normalize(e.image_from_text, dim=1).T
    to_text = F.normalize(e.text_from_image, dim=1) @ F.normalize(e.text, dim=1).T
    return 1.0 - (to_image + to_text) / 2
