"""What a text-image model that was trained on keeps of another domain: rendered scenes.

The model finds partners among scenes by the cosine of its projections, as it came; the run finds
them by its own energy. Recall says what was lost or won there, agreement how much of the answers
changed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.scenes import Scenes
from tijepa.evaluate.measure import evaluation_set
from tijepa.evaluate.retrieval import retrieval
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embeddings, cosine_energy
from tijepa.inference.results import Forgetting
from tijepa.model.text_image_model import TextImageModel

SCENES = 200  # each is encoded once by either model
_NEAREST = 10


def compares_projections(model: TextImageModel) -> bool:
    """Whether the pooled tokens of both encoders are projections into one space, as of CLIP."""
    image, text = model.context.image, model.context.text
    projected = [getattr(tower, "pooling", None) == "projected" for tower in (image, text)]
    return all(projected) and image.pooled_width == text.pooled_width


def own_cosine(e: Embeddings) -> Float[Tensor, "i t"]:
    """1 - the cosine of pooled tokens, which are projections into one space."""
    return cosine_energy(Embeddings.of(e.of_images.direct, e.of_texts.direct))


def forgetting(run: Embedder, original: Embedder | None = None) -> Forgetting:
    """Recall on scenes of a text-image model as it came, and of the run on top of it.

    `original` has the towers as they came, by default those of the run, which are frozen then.
    """
    card = run.card
    scenes = Scenes("test", SCENES, distinct=True)
    data = evaluation_set(
        scenes, items=SCENES, captions=1, image_size=card.image_size, mean=card.mean, std=card.std
    )
    after = run.embeddings_of_inputs(data.images, data.texts)
    before = after
    if original is not None:
        before = original.embeddings_of_inputs(data.images, data.texts)
    came, now = own_cosine(before), run.search_energies_of(after, run.default_form)
    agreement = nearest_in_common(came, now.texts) + nearest_in_common(came.T, now.images.T)
    return Forgetting(
        before=retrieval(came, data.image_of_text),
        after=retrieval(now, data.image_of_text),
        agreement_at_10=agreement / 2,
    )


def forgetting_in_words(found: Forgetting | None) -> str | None:
    """Both recalls and the agreement; None where they were not measured."""
    if found is None:
        return None
    before, after = (
        " / ".join(f"{100 * one.recall_at_1:.1f}" for one in way.directions.values())
        for way in (found.before, found.after)
    )
    return (
        f"on {found.after.num_images:.0f} rendered scenes, another domain, R@1 went from {before}"
        f" to {after} % by training; {100 * found.agreement_at_10:.0f} % of the ten nearest stayed"
    )


def nearest_in_common(one: Float[Tensor, "q n"], other: Float[Tensor, "q n"]) -> float:
    """The share of the ten lowest energies of each query that both have, of all where n < 10."""
    k = min(_NEAREST, one.shape[1])
    sets = [torch.zeros_like(e, dtype=torch.bool) for e in (one, other)]
    for chosen, energy in zip(sets, (one, other), strict=True):
        chosen.scatter_(1, energy.topk(k, dim=1, largest=False).indices, True)
    return float((sets[0] & sets[1]).sum() / (k * len(one)))
