"""The TI-JEPA objective: who is trained by what, what counts, and what can be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tijepa.data.pairs import Batch
from tijepa.model.encoded import TokenSubset
from tijepa.model.mlp import BatchTargetNorm
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import TASKS, Counts, DrawnMasks, Encodings, ObjectiveOutput, Pooled
from tijepa.objectives.energies import Energy, cosine, smooth_l1, squared_l2
from tijepa.objectives.masks import BlockMasks, Masks, SpanMasks
from tijepa.objectives.regularizers import SIGReg, VICReg
from tijepa.objectives.tijepa import TIJEPAObjective, WeightedRegularizer

GRID = 3
ALL_TOKENS = dict.fromkeys(TASKS, 1.0)
BOTH_POOLED = {"text_to_image": 1.0, "image_to_text": 1.0}
HALF = ([True, True, False, True, False, True], [True, False, True, True, True, True])
PAIRS, IMAGES, TEXTS = [0, 3, 5], [0, 1, 3, 5], [0, 2, 3, 4, 5]


def objective(**changed: Any) -> TIJEPAObjective:
    arguments: dict[str, Any] = {
        "pooled": {},
        "tokens": {},
        "energy": squared_l2,
        "ema_pooled": False,
        "ema_tokens": True,
        "block_masks": BlockMasks(GRID, 2, (0.2, 0.3), (0.75, 1.5), (0.85, 1.0)),
        "span_masks": SpanMasks(hidden=0.4, span=2),
        **changed,
    }
    return TIJEPAObjective(**arguments)


def sigreg(weight: float = 0.1) -> WeightedRegularizer:
    return WeightedRegularizer(SIGReg(slices=4), weight)


class Setting:
    """A model and a batch, and an objective's terms on them."""

    def __init__(
        self,
        model: TextImageModel,
        batch: Batch,
        make_encodings: Callable[[TextImageModel, Batch], Encodings],
        make_pooled: Callable[[Encodings, Batch], Pooled],
    ) -> None:
        self.model, self.batch = model, batch
        self.encodings = make_encodings(model, batch)
        self.pooled = make_pooled(self.encodings, batch)

    def draw(self, objective: TIJEPAObjective) -> DrawnMasks:
        return objective.draw_masks(self.batch, GRID, np.random.default_rng(0))

    def items(self, objective: TIJEPAObjective, masks: DrawnMasks | None = None) -> ObjectiveOutput:
        drawn = self.draw(objective) if masks is None else masks
        found = objective.item_terms(
            self.model, self.batch, self.encodings, drawn, Counts.of(self.batch)
        )
        assert found is not None
        return found

    def whole(self, objective: TIJEPAObjective) -> ObjectiveOutput:
        generator = torch.Generator().manual_seed(0)
        return objective.batch_terms(self.model, self.pooled, generator)


@pytest.fixture
def setting(
    make_model: Callable[..., TextImageModel],
    make_batch: Callable[..., Batch],
    make_encodings: Callable[[TextImageModel, Batch], Encodings],
    make_pooled: Callable[[Encodings, Batch], Pooled],
) -> Callable[..., Setting]:
    def make(*has: list[bool], batch: Batch | None = None, **model: Any) -> Setting:
        chosen = make_batch(*has) if batch is None else batch
        return Setting(make_model(**model), chosen, make_encodings, make_pooled)

    return make


def trained(model: TextImageModel) -> set[str]:
    """Parts whose parameters got a gradient that is not zero everywhere."""
    assert model.predictors is not None
    parts = {
        "image": model.context.image,
        "text": model.context.text,
        "image_head": model.context.image_head,
        "text_head": model.context.text_head,
        "image_to_text": model.predictors.image_to_text,
        "text_to_image": model.predictors.text_to_image,
        "token_predictor": model.predictors.tokens,
        "fusion": model.context.fusion,
        "fused_predictor": model.predictors.fused,
        "target": model.target,
    }
    return {
        name
        for name, part in parts.items()
        if part is not None
        and any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    }


def rows(batch: Batch, index: list[int]) -> Batch:
    return Batch(
        **{n: value[index] for n, value in vars(batch).items() if isinstance(value, Tensor)},
        cursor=batch.cursor,
    )


def mask_rows(masks: DrawnMasks, index: list[int]) -> DrawnMasks:
    def pick(part: Masks | None) -> Masks | None:
        if part is None:
            return None

        def rows(v: TokenSubset) -> TokenSubset:
            return TokenSubset(v.index[index], v.mask[index])

        return Masks(rows(part.context), rows(part.target), tuple(map(rows, part.blocks)))

    return DrawnMasks(pick(masks.image), pick(masks.text))


TOKEN_ROUTES = {
    "text_to_image": {"text", "token_predictor"},
    "image_to_text": {"image", "token_predictor"},
    "image_infill": {"image", "text", "token_predictor"},
    "text_infill": {"image", "text", "token_predictor"},
    "image_only": {"image", "token_predictor"},
    "text_only": {"text", "token_predictor"},
    "fusion_infill": {"image", "text", "fusion", "fused_predictor"},
}
PLAIN = [name for name, task in TASKS.items() if not task.fused]


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_token_task_trains_its_context_and_its_predictor_only(
    setting: Callable[..., Setting], task: str, ema: bool
) -> None:
    """In particular never the target: not the EMA copy, not the stopped side of the context."""
    s = setting()
    terms = s.items(objective(tokens={task: 1.0}, ema_tokens=ema))
    assert torch.isfinite(terms.loss)
    assert terms.loss > 0
    terms.loss.backward()
    assert trained(s.model) == TOKEN_ROUTES[task]
    assert s.model.target is not None
    assert all(p.grad is None for p in s.model.target.parameters())


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("task", BOTH_POOLED)
@pytest.mark.parametrize("energy", [squared_l2, smooth_l1, cosine])
def test_a_pooled_task_trains_one_encoder_its_head_and_its_predictor(
    setting: Callable[..., Setting], task: str, ema: bool, energy: Energy
) -> None:
    s = setting()
    terms = s.whole(objective(pooled={task: 1.0}, ema_pooled=ema, energy=energy))
    assert terms.loss > 0
    terms.loss.backward()
    source = task.split("_")[0]
    assert trained(s.model) == {source, f"{source}_head", task}


def test_a_stopped_target_has_exactly_no_gradient_unless_another_term_gives_it_one(
    setting: Callable[..., Setting],
) -> None:
    """Image → text leaves the text side alone; the other direction or a regularizer does not."""
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"pooled": {"image_to_text": 1.0}}, False),
        ({"pooled": {"image_to_text": 1.0}, "regularize_image": sigreg()}, False),
        ({"pooled": BOTH_POOLED}, True),
        ({"pooled": {"image_to_text": 1.0}, "regularize_text": sigreg()}, True),
    ]
    for arguments, expected in cases:
        s = setting()
        s.whole(objective(**arguments)).loss.backward()
        text = [*s.model.context.text.parameters(), *s.model.context.text_head.parameters()]
        moved = any(p.grad is not None and bool(p.grad.any()) for p in text)
        assert moved is expected, arguments


def test_all_tasks_together_train_everything_but_the_target(
    setting: Callable[..., Setting],
) -> None:
    s = setting()
    mixed = objective(
        pooled=BOTH_POOLED, tokens=ALL_TOKENS, regularize_image=sigreg(), regularize_text=sigreg()
    )
    whole, items = s.whole(mixed), s.items(mixed)
    (whole.loss + items.loss).backward()
    assert trained(s.model) == {
        "image",
        "text",
        "image_head",
        "text_head",
        "image_to_text",
        "text_to_image",
        "token_predictor",
        "fusion",
        "fused_predictor",
    }
    assert set(whole.readings) == {
        "energy/text_to_image/pooled",
        "energy/image_to_text/pooled",
        "regularizer/image",
        "regularizer/text",
    }
    assert set(items.readings) == {f"energy/{task}/tokens" for task in TASKS}
    for reading in (*whole.readings.values(), *items.readings.values()):
        assert not reading.requires_grad


def test_the_loss_is_the_weighted_sum_of_its_unweighted_readings(
    setting: Callable[..., Setting],
) -> None:
    s = setting()
    weights = {name: 0.5 + k for k, name in enumerate(TASKS)}
    made = objective(
        pooled={"text_to_image": 3.0, "image_to_text": 0.25},
        tokens=weights,
        regularize_image=sigreg(0.7),
        regularize_text=WeightedRegularizer(VICReg(), 0.3),
    )
    whole, items = s.whole(made), s.items(made)
    expected = (
        3.0 * whole.readings["energy/text_to_image/pooled"]
        + 0.25 * whole.readings["energy/image_to_text/pooled"]
        + 0.7 * whole.readings["regularizer/image"]
        + 0.3 * whole.readings["regularizer/text"]
    )
    torch.testing.assert_close(whole.loss.detach(), expected)
    tokens = sum(w * items.readings[f"energy/{name}/tokens"] for name, w in weights.items())
    torch.testing.assert_close(items.loss.detach(), tokens)


@pytest.mark.parametrize("ema", [True, False])
def test_pooled_energies_compare_predictions_with_the_chosen_target(
    setting: Callable[..., Setting], ema: bool
) -> None:
    s = setting(norm="none")
    assert s.model.predictors is not None
    assert s.model.target is not None
    for parameter in s.model.target.parameters():  # so that both kinds of target differ
        parameter.mul_(0.7)
    encoders = s.model.target if ema else s.model.context
    with torch.no_grad():
        predicted = s.model.predictors.text_to_image(s.model.context.embed_text(s.pooled.text))
        assert s.pooled.target_image is not None
        target = encoders.embed_image(s.pooled.target_image if ema else s.pooled.image)
    got = s.whole(objective(pooled={"text_to_image": 1.0}, ema_pooled=ema))
    torch.testing.assert_close(got.loss.detach(), (predicted - target).square().mean())


def test_pooled_targets_are_normalised_over_all_items_of_their_modality(
    setting: Callable[..., Setting],
) -> None:
    """Also over those without a partner, which have no energy; predictions stay as they are."""
    s = setting(*HALF)
    assert s.model.predictors is not None
    s.model.predictors.image_norm = BatchTargetNorm(6, scale=True, epsilon=0.0)
    got = s.whole(objective(pooled={"text_to_image": 1.0}))
    image = s.model.context.embed_image(s.pooled.image[IMAGES]).detach()
    text = s.model.context.embed_text(s.pooled.text[TEXTS])
    normed = (image - image.mean(dim=0)) / image.std(dim=0, correction=0)
    predicted = s.model.predictors.text_to_image(text[[TEXTS.index(k) for k in PAIRS]])
    expected = squared_l2(predicted, normed[[IMAGES.index(k) for k in PAIRS]]).mean()
    torch.testing.assert_close(got.loss, expected)
    got.loss.backward()
    assert trained(s.model) == {"text", "text_head", "text_to_image"}


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("task", PLAIN)
def test_token_targets_are_the_layer_normed_tokens_at_the_wanted_places(
    setting: Callable[..., Setting], task: str, ema: bool
) -> None:
    """A spy in place of the energy sees what is compared, token by token."""
    s = setting()
    assert s.model.target is not None
    for parameter in s.model.target.parameters():
        parameter.mul_(0.7)
    s = replace_views(s)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(predicted: Tensor, target: Tensor) -> Tensor:
        seen.append((predicted, target))
        return squared_l2(predicted, target)

    made = objective(tokens={task: 1.0}, ema_tokens=ema, energy=spy)
    masks = s.draw(made)
    s.items(made, masks)
    [(predicted, target)] = seen
    assert predicted.shape == target.shape
    modality = TASKS[task].predicts
    encoded = getattr(s.encodings, f"target_{modality}" if ema else modality)
    drawn = getattr(masks, modality)
    index = drawn.target.index if TASKS[task].hides else encoded.position
    mask = drawn.target.mask if TASKS[task].hides else encoded.mask
    for row in range(len(s.batch)):
        own = index[row][mask[row]]
        expected = F.layer_norm(encoded.tokens[row, own], encoded.tokens.shape[-1:])
        torch.testing.assert_close(target[row][mask[row]], expected.detach())
    assert not target.requires_grad


def replace_views(s: Setting) -> Setting:
    """Encode again, after the weights were changed."""
    with torch.no_grad():
        assert s.model.target is not None
        s.encodings = replace(
            s.encodings,
            target_image=s.model.target.image(s.batch.images),
            target_text=s.model.target.text(s.batch.tokens, s.batch.token_mask),
        )
    return s


@pytest.mark.parametrize("task", TASKS)
def test_every_item_counts_the_same_whatever_its_number_of_tokens(
    setting: Callable[..., Setting], task: str
) -> None:
    """With an energy of 1 for every token each item has energy 1, and so has the mean."""

    def one(predicted: Tensor, target: Tensor) -> Tensor:
        return torch.ones(predicted.shape[:-1]) + 0 * predicted.sum(dim=-1)

    terms = setting().items(objective(tokens={task: 1.0}, energy=one))
    torch.testing.assert_close(terms.loss.detach(), torch.tensor(1.0))


def _hidden_pixels(masks: DrawnMasks) -> Tensor:
    """1 where a patch is not in the context of its image, else 0: shape b 1 s s."""
    assert masks.image is not None
    context = masks.image.context
    shown = torch.zeros(len(context.index), GRID**2)
    for row, (index, mask) in enumerate(zip(context.index, context.mask, strict=True)):
        shown[row, index[mask]] = 1.0
    grid = (1 - shown).view(-1, 1, GRID, GRID)
    return grid.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


@pytest.mark.parametrize("task", ["image_infill", "image_only", "fusion_infill"])
def test_hidden_pixels_cannot_influence_the_prediction(
    setting: Callable[..., Setting], task: str
) -> None:
    """The targets are kept; only what the context encoder is given changes."""
    s = setting()
    made = objective(tokens={task: 1.0})
    masks = s.draw(made)
    hidden = _hidden_pixels(masks)
    before = s.items(made, masks).loss
    s.batch = replace(s.batch, images=s.batch.images + 2.0 * hidden)
    assert torch.equal(s.items(made, masks).loss, before)
    s.batch = replace(s.batch, images=s.batch.images + 0.5 * (1 - hidden))
    assert not torch.equal(s.items(made, masks).loss, before)


@pytest.mark.parametrize("task", ["text_infill", "text_only"])
def test_hidden_words_cannot_influence_the_prediction(
    setting: Callable[..., Setting], task: str
) -> None:
    s = setting()
    made = objective(tokens={task: 1.0})
    masks = s.draw(made)
    assert masks.text is not None
    before = s.items(made, masks).loss
    for part, equal in ((masks.text.target, True), (masks.text.context, False)):
        tokens = s.batch.tokens.clone()
        for row, (index, mask) in enumerate(zip(part.index, part.mask, strict=True)):
            tokens[row, index[mask]] = (tokens[row, index[mask]] + 5) % 30
        original, s.batch = s.batch, replace(s.batch, tokens=tokens)
        assert torch.equal(s.items(made, masks).loss, before) is equal
        s.batch = original


@pytest.mark.parametrize("task", TASKS)
def test_token_tasks_use_exactly_the_items_that_have_what_they_need(
    setting: Callable[..., Setting], task: str
) -> None:
    """The loss of a mixed batch is that of its usable rows alone, masks being the same."""
    usable = {"image_only": IMAGES, "text_only": TEXTS}.get(task, PAIRS)
    made = objective(tokens={task: 1.0})
    mixed = setting(*HALF)
    masks = mixed.draw(made)
    alone = setting(batch=rows(mixed.batch, usable))
    torch.testing.assert_close(
        mixed.items(made, masks).loss,
        alone.items(made, mask_rows(masks, usable)).loss,
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize("task", ["text_infill", "text_only"])
def test_a_caption_of_which_nothing_can_be_hidden_is_no_item_of_the_task(
    setting: Callable[..., Setting], make_batch: Callable[..., Batch], task: str
) -> None:
    """Of [CLS] and one word nothing is hidden: the mean is that over the other rows."""
    batch = make_batch()
    mask = batch.token_mask.clone()
    mask[[1, 4], 2:] = False
    mixed = setting(batch=replace(batch, token_mask=mask, tokens=batch.tokens * mask))
    usable = [0, 2, 3, 5]
    alone = setting(batch=rows(mixed.batch, usable))
    made = objective(tokens={task: 1.0})
    masks = mixed.draw(made)
    torch.testing.assert_close(
        mixed.items(made, masks).loss,
        alone.items(made, mask_rows(masks, usable)).loss,
        atol=1e-6,
        rtol=1e-6,
    )


def test_pooled_tasks_and_regularizers_use_exactly_the_items_that_have_what_they_need(
    setting: Callable[..., Setting],
) -> None:
    """Heads without BatchNorm, so that no item reaches another through the statistics."""
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"pooled": BOTH_POOLED}, PAIRS),
        ({"pooled": BOTH_POOLED, "ema_pooled": True}, PAIRS),
        ({"regularize_image": sigreg()}, IMAGES),
        ({"regularize_text": WeightedRegularizer(VICReg(), 1.0)}, TEXTS),
    ]
    for arguments, usable in cases:
        mixed = setting(*HALF, norm="none")
        alone = setting(batch=rows(mixed.batch, usable), norm="none")
        made = objective(**arguments)
        expected = alone.whole(made).loss
        assert expected > 0
        torch.testing.assert_close(mixed.whole(made).loss, expected, atol=1e-6, rtol=1e-6)


def everything(**changed: Any) -> TIJEPAObjective:
    return objective(
        pooled=BOTH_POOLED,
        tokens=ALL_TOKENS,
        ema_pooled=True,
        regularize_image=sigreg(),
        regularize_text=sigreg(),
        **changed,
    )


def test_what_stands_in_for_a_missing_modality_is_never_looked_at(
    setting: Callable[..., Setting],
) -> None:
    """Other pixels where there is no image and another [CLS] where there is no text: same loss."""
    plain = setting(*HALF)
    made = everything()
    masks = plain.draw(made)
    batch = plain.batch
    missing_text = ~batch.has_text[:, None] & (torch.arange(batch.tokens.shape[1]) == 0)
    other = replace(
        batch,
        images=batch.images + 0.7 * ~batch.has_image[:, None, None, None],
        tokens=torch.where(missing_text, 9, batch.tokens),
    )
    changed = setting(batch=other)
    assert not torch.equal(changed.batch.tokens, batch.tokens)
    for terms in ("items", "whole"):
        arguments = (made, masks) if terms == "items" else (made,)
        first, second = getattr(plain, terms)(*arguments), getattr(changed, terms)(*arguments)
        torch.testing.assert_close(first.loss, second.loss, atol=1e-6, rtol=1e-6)


POOR = {
    "only images": ([True] * 6, [False] * 6),
    "only texts": ([False] * 6, [True] * 6),
    "no pair": ([True, False] * 3, [False, True] * 3),
    "one pair": ([True, True, True, False, False, False], [False, False] + [True] * 4),
    "one image": ([True] + [False] * 5, [True] * 6),
    "one text": ([True] * 6, [False] * 5 + [True]),
    "one of each": ([True, False], [False, True]),
    "a single pair": ([True], [True]),
    "nothing": ([False] * 3, [False] * 3),
}


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("case", POOR)
def test_batches_that_lack_almost_everything_are_fine(
    setting: Callable[..., Setting], case: str, norm: str
) -> None:
    """Finite loss and gradient, and readings only of terms that something contributed to."""
    s = setting(*POOR[case], norm=norm)
    images, texts = int(s.batch.has_image.sum()), int(s.batch.has_text.sum())
    pairs = int((s.batch.has_image & s.batch.has_text).sum())
    made = everything()
    whole, items = s.whole(made), s.items(made)
    loss = whole.loss + items.loss
    assert torch.isfinite(loss)
    if loss.requires_grad:
        loss.backward()
    for parameter in s.model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    assert ("energy/text_to_image/pooled" in whole.readings) == (pairs > 1)
    assert ("regularizer/image" in whole.readings) == (images > 1)
    assert ("regularizer/text" in whole.readings) == (texts > 1)
    assert ("energy/image_only/tokens" in items.readings) == (images > 0)
    assert ("energy/text_only/tokens" in items.readings) == (texts > 0)
    assert ("energy/image_infill/tokens" in items.readings) == (pairs > 0)


def test_running_statistics_survive_a_batch_of_one_modality(
    setting: Callable[..., Setting],
) -> None:
    s = setting([True] * 6, [False] * 6)
    s.whole(everything())
    assert all(torch.isfinite(buffer).all() for buffer in s.model.buffers())


@pytest.mark.parametrize(
    ("tokens", "image", "text"),
    [
        ({}, False, False),
        ({"text_to_image": 1.0, "image_to_text": 1.0}, False, False),
        ({"image_infill": 1.0}, True, False),
        ({"image_only": 1.0}, True, False),
        ({"fusion_infill": 1.0}, True, False),
        ({"text_infill": 1.0}, False, True),
        ({"image_only": 1.0, "text_only": 1.0}, True, True),
    ],
)
def test_masks_are_drawn_only_for_what_a_task_hides(
    setting: Callable[..., Setting], tokens: Mapping[str, float], image: bool, text: bool
) -> None:
    s = setting()
    drawn = s.draw(objective(tokens=tokens))
    assert (drawn.image is not None) is image
    assert (drawn.text is not None) is text
    if drawn.text is not None:
        lengths = drawn.text.context.mask.sum(dim=1) + drawn.text.target.mask.sum(dim=1)
        assert torch.equal(lengths, s.batch.token_mask.sum(dim=1))


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({"pooled": BOTH_POOLED, "ema_pooled": False}, False),
        ({"pooled": BOTH_POOLED, "ema_pooled": True}, True),
        ({"tokens": ALL_TOKENS, "ema_tokens": True}, True),
        ({"tokens": dict.fromkeys(PLAIN, 1.0), "ema_tokens": False, "ema_pooled": True}, False),
        ({"tokens": {"fusion_infill": 1.0}, "ema_tokens": False}, True),
    ],
)
def test_target_encoders_are_needed_only_where_a_target_is_theirs(
    arguments: dict[str, Any], needed: bool
) -> None:
    assert objective(**arguments).needs_targets is needed


def test_without_token_tasks_there_is_nothing_per_item(setting: Callable[..., Setting]) -> None:
    s = setting()
    made = objective(pooled=BOTH_POOLED)
    counts = Counts.of(s.batch)
    assert made.item_terms(s.model, s.batch, s.encodings, s.draw(made), counts) is None


def test_counts_are_those_of_the_batch(make_batch: Callable[..., Batch]) -> None:
    """Of the five captions the last one, of a pair, is cut to two tokens."""
    batch = make_batch(*HALF)
    batch.token_mask[5, 2:] = False
    assert Counts.of(batch) == Counts(images=4, texts=5, pairs=3, long_texts=4, long_pairs=2)
