"""The energy of the task `fusion_infill`, the objective of the TI-JEPA paper (arXiv 2503.06380).

Context: X(visible patches, text). Target: X̄(all patches, text), layer-normalised, of the target
encoders. The predictor answers for each target block alone: context tokens and the mask tokens of
one block, so that no block's queries see another's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.model.encoded import Encoded, gather_tokens
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Encodings
from tijepa.objectives.energies import Energy
from tijepa.objectives.masks import Masks


@torch.no_grad()
def fused_targets(model: TextImageModel, encodings: Encodings) -> Encoded:
    """X̄ of everything, its tokens layer-normalised over the width, all positions in order."""
    assert model.target is not None
    assert model.target.fusion is not None
    assert encodings.target_image is not None
    assert encodings.target_text is not None
    fused = model.target.fusion(encodings.target_image, encodings.target_text)
    tokens = F.layer_norm(fused.tokens, fused.tokens.shape[-1:])
    return Encoded(tokens, fused.position, fused.mask, fused.pooled)


def fused_energy(
    model: TextImageModel,
    energy: Energy,
    context: Encoded,
    text: Encoded,
    encodings: Encodings,
    hidden: Masks,
) -> Float[Tensor, " b"]:
    """Energy of each item: the mean over the patches of all its target blocks.

    `context` are the image tokens that the context encoder made of the visible patches alone. A
    patch that lies in two blocks is predicted, and counts, twice.
    """
    assert model.context.fusion is not None
    assert model.predictors is not None
    assert model.predictors.fused is not None
    assert hidden.blocks, "the masks have no blocks"
    targets = fused_targets(model, encodings)
    seen = model.context.fusion(context, text)
    total = targets.tokens.new_zeros(len(targets.tokens))
    count = total.clone()
    for block in hidden.blocks:
        predicted = model.predictors.fused([("image", seen)], "image", block.index, block.mask)
        per_token = energy(predicted.float(), gather_tokens(targets.tokens, block.index))
        weight = block.mask.to(per_token.dtype)
        total = total + (per_token * weight).sum(dim=1)
        count = count + weight.sum(dim=1)
    return total / count
