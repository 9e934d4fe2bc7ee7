"""From settings to objects: what is built, what is not, and every preset for one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tijepa.config import RunConfig, load_config, preset_names
from tijepa.data.pairs import Batch
from tijepa.errors import ConfigError
from tijepa.model.fusion import Fusion
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.energies import cosine, smooth_l1, squared_l2
from tijepa.objectives.regularizers import SIGReg, VICReg, VISReg
from tijepa.objectives.rivals import CLIPObjective, SigLIPObjective, VICRegObjective
from tijepa.objectives.tijepa import TIJEPAObjective
from tijepa.training.build import (
    build_model,
    build_objective,
    model_arguments,
    needs_text,
    parameter_counts,
    resolve_compute,
)
from tijepa.training.optimizer import ScheduleValues, build_optimizer
from tijepa.training.step import training_step

SMALL = [
    "data.image_size=16",
    "data.max_tokens=8",
    "model.embed_dim=6",
    "model.image={patch_size: 4, width: 8, depth: 1, heads: 2}",
    "model.text={width: 12, depth: 1, heads: 2}",
    "model.head={depth: 1, hidden: 10, norm: batch}",
    "compute.device=cpu",
]
POOLED_OFF = ["objective.tasks.text_to_image.pooled=0", "objective.tasks.image_to_text.pooled=0"]


def small(*overrides: str) -> RunConfig:
    return load_config(overrides=[*SMALL, *overrides])


def random_batch(config: RunConfig, count: int) -> Batch:
    size, length = config.data.image_size, config.data.max_tokens
    generator = torch.Generator().manual_seed(0)
    every = torch.ones(count, dtype=torch.bool)
    lengths = torch.randint(4, length + 1, (count, 1), generator=generator)
    mask = torch.arange(length).expand(count, -1) < lengths
    tokens = torch.randint(1, config.data.vocab_size, (count, length), generator=generator)
    return Batch(
        images=torch.rand(count, 3, size, size, generator=generator) * 2 - 1,
        has_image=every,
        tokens=tokens * mask,
        token_mask=mask,
        has_text=every,
        indices=torch.arange(count),
        cursor=count,
    )


def step_once(config: RunConfig, count: int) -> None:
    model = build_model(config, config.data.vocab_size).train()
    objective = build_objective(config)
    optimizer = build_optimizer([model, objective], lr=1e-3, betas=config.optim.betas)
    before = {name: p.detach().clone() for name, p in model.context.named_parameters()}
    reading = training_step(
        model,
        objective,
        optimizer,
        random_batch(config, count),
        ScheduleValues(lr=1e-3, weight_decay=0.04, ema_momentum=0.99),
        seed=(0, 0, 0),
        compute=resolve_compute(config),
    )
    assert reading.finite
    if config.model.pooled_predictor.kind == "mlp":  # the energy by covariance may be negative
        assert reading.loss > 0
    assert reading.grad_norm > 0
    assert reading.terms
    assert any(not torch.equal(model.context.get_parameter(n), p) for n, p in before.items())


ON_CPU = ["compute.device=cpu", "compute.precision=float32"]


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_and_steps(preset: str, backbones: dict[str, Path]) -> None:
    """On random data of its own shapes; the batch is cut down, and encoders to two layers."""
    small = [*_shallow(preset), *_local(preset, backbones)]
    count = 2 if preset.startswith("paper-") else 8
    step_once(load_config(preset, overrides=[*ON_CPU, *small]), count=count)


@pytest.mark.slow
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_builds_and_steps_in_full_depth(
    preset: str, backbones: dict[str, Path]
) -> None:
    step_once(load_config(preset, overrides=[*ON_CPU, *_local(preset, backbones)]), count=2)


def _shallow(preset: str) -> list[str]:
    model = load_config(preset).model
    own = {name: t for name, t in (("image", model.image), ("text", model.text)) if not t.backbone}
    shallow = [f"model.{name}.depth={min(2, tower.depth)}" for name, tower in own.items()]
    if load_config(preset).objective.tasks.fusion_infill:
        shallow += ["model.fusion.depth=1", "model.token_predictor.depth=1"]
    return shallow


@pytest.mark.parametrize(
    ("preset", "millions", "printed"),
    [("paper-small", 39, 10), ("paper-medium", 58, 10), ("paper-large", 131, 12)],
)
def test_the_papers_sizes_are_those_of_its_cross_attention(
    preset: str, millions: int, printed: int
) -> None:
    """Within 2 %, counting X alone, on tokens of 1280 (ViT-H/14) and 768 (gte-base).

    Small: 1280 · 768 + 768, four layers of 4 (768² + 768) for the attention, the same for the
    cross-attention, 8 · 768² + 5 · 768 for the MLP, 6 · 768 for the norms, 2 · 768 at the end:
    38.8 M. The heads that the paper prints do not divide its widths.
    """
    config = load_config(preset)
    with torch.device("meta"):
        fusion = Fusion(image_width=1280, text_width=768, **config.model.fusion.model_dump())
    count = sum(p.numel() for p in fusion.parameters())
    assert abs(count - millions * 1e6) < 0.02 * millions * 1e6
    if preset == "paper-small":
        layer = 8 * (768**2 + 768) + 8 * 768**2 + 5 * 768 + 6 * 768
        assert count == 1280 * 768 + 768 + 4 * layer + 2 * 768
    with pytest.raises(ConfigError, match=f"is not divisible by heads {printed}"):
        load_config(preset, overrides=[f"model.fusion.heads={printed}"])


def test_the_papers_schedule_is_that_of_300_epochs_of_coco() -> None:
    """300 · 118,287 / 1024 = 34,654 updates; warm-up 40 of 300 epochs, 4,620 of them."""
    for size in ("small", "medium", "large"):
        optim = load_config(f"paper-{size}").optim
        assert optim.steps == 300 * 118_287 // 1024
        assert optim.batch_size == 1024
        assert optim.warmup == pytest.approx(40 / 300, abs=1e-3)
        assert (optim.lr, optim.lr * optim.final_lr) == (1e-3, pytest.approx(1e-6))
        assert (optim.ema_momentum, optim.weight_decay) == ((0.996, 1.0), (0.04, 0.4))


def _local(preset: str, backbones: dict[str, Path]) -> list[str]:
    """Tiny backbones of random weights in the place of those that the preset names."""
    model = load_config(preset).model
    if model.image.pool == "projected":  # a text-image model, whose texts are short
        from tests.model.pretrained.tiny import write_text_image_model

        folder = backbones["image"].parent / "clip"
        if not folder.exists():
            write_text_image_model(folder, "clip")
        return [f"model.backbone={folder}", "data.max_tokens=12", "data.image_size=32"]
    named = {"image": model.image.backbone, "text": model.text.backbone}
    return [
        f"model.{name}.backbone={backbones[name]}" for name, backbone in named.items() if backbone
    ]


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_model(small("seed=3"), 70).state_dict()
    after = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), after), "building must not touch the global generator"
    again, other = (build_model(small(f"seed={seed}"), 70).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["context.text.embed.weight"], other["context.text.embed.weight"])


@pytest.mark.parametrize(
    ("overrides", "predictors", "tokens", "ema"),
    [
        (["objective.name=clip"], False, False, False),
        (["objective.name=siglip"], False, False, False),
        (["objective.name=vicreg"], False, False, False),
        (["objective.name=ijepa"], True, True, True),
        (["objective.pooled_targets=stop_gradient"], True, False, False),
        (["objective.pooled_targets=ema"], True, False, True),
        (["objective.tasks.image_only=1", "objective.token_targets=ema"], True, True, True),
        (
            ["objective.tasks.image_only=1", "objective.token_targets=stop_gradient"],
            True,
            True,
            False,
        ),
        (["objective.tasks.fusion_infill=1"], True, False, True),
        (
            ["objective.tasks.text_infill=1", "objective.token_targets=ema", *POOLED_OFF],
            True,
            True,
            True,
        ),
    ],
)
def test_only_what_the_objective_uses_is_built(
    overrides: list[str], predictors: bool, tokens: bool, ema: bool
) -> None:
    config = small(*overrides)
    model, objective = build_model(config, 70), build_objective(config)
    assert (model.predictors is not None) is predictors
    assert (model.predictors is not None and model.predictors.tokens is not None) is tokens
    assert (model.target is not None) is ema
    assert objective.needs_targets is ema


def test_model_arguments_are_plain_values_that_json_can_hold() -> None:
    config = small("objective.tasks.image_infill=0.5", "objective.token_targets=ema")
    arguments = model_arguments(config, 70)
    assert json.loads(json.dumps(arguments)) == arguments
    built, rebuilt = build_model(config, 70), TextImageModel(**arguments)
    shapes = {name: value.shape for name, value in built.state_dict().items()}
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == shapes
    assert shapes["context.text.embed.weight"] == (70, 12)


def tijepa(*overrides: str) -> TIJEPAObjective:
    objective = build_objective(small("objective.name=tijepa", *overrides))
    assert isinstance(objective, TIJEPAObjective)
    return objective


def test_objectives_go_by_their_names() -> None:
    assert isinstance(build_objective(small("objective.name=clip")), CLIPObjective)
    assert isinstance(build_objective(small("objective.name=siglip")), SigLIPObjective)
    assert isinstance(build_objective(small("objective.name=vicreg")), VICRegObjective)
    assert isinstance(build_objective(small("objective.name=tijepa")), TIJEPAObjective)


def test_levljepa_is_built_as_published() -> None:
    """Heads of one hidden layer and predictors of four, 2,048 wide; λ 0.02; no EMA."""
    config = load_config(overrides=[*SMALL[:-2], SMALL[-1], "objective.name=levljepa"])
    model, objective = build_model(config, 70), build_objective(config)
    assert isinstance(objective, TIJEPAObjective)
    assert objective.pooled_weights == {"text_to_image": 1.0, "image_to_text": 1.0}
    assert objective.token_weights == {}
    assert model.target is None
    assert model.predictors is not None
    heads = (model.context.image_head, model.context.text_head)
    predictors = (model.predictors.image_to_text, model.predictors.text_to_image)
    for mlps, depth in ((heads, 1), (predictors, 4)):
        for mlp in mlps:
            norms = [m for m in mlp.modules() if isinstance(m, torch.nn.BatchNorm1d)]
            assert [norm.num_features for norm in norms] == [2048] * depth
    for regularizer in objective.regularizers.values():
        assert regularizer is not None
        assert isinstance(regularizer.penalty, SIGReg)
        assert regularizer.weight == 0.02


def test_ijepa_sees_images_alone() -> None:
    config = small("objective.name=ijepa")
    objective = build_objective(config)
    assert isinstance(objective, TIJEPAObjective)
    assert (objective.pooled_weights, objective.token_weights) == ({}, {"image_only": 1.0})
    assert objective.regularizers == {"image": None, "text": None}
    assert not needs_text(config.objective)


def test_energies_go_by_their_names() -> None:
    for energy in (squared_l2, smooth_l1, cosine):
        assert tijepa(f"objective.energy={energy.__name__}").energy is energy


def test_weights_arrive_and_zeros_are_left_out() -> None:
    objective = tijepa(
        "objective.tasks.text_to_image={pooled: 0.5, tokens: 2}",
        "objective.tasks.image_to_text={pooled: 0, tokens: 0}",
        "objective.tasks.text_only=3",
    )
    assert objective.pooled_weights == {"text_to_image": 0.5}
    assert objective.token_weights == {"text_to_image": 2.0, "text_only": 3.0}


def test_masks_get_their_settings_and_the_grid_of_the_model() -> None:
    objective = tijepa(
        "objective.tasks.image_only=1",
        "objective.tasks.text_only=1",
        "objective.masks={target_blocks: 3, target_scale: [0.1, 0.2], target_aspect: [0.5, 2],"
        " context_scale: [0.7, 0.9], text_hidden: 0.25, text_span: 2}",
    )
    blocks, spans = objective.block_masks, objective.span_masks
    assert blocks is not None
    assert spans is not None
    assert (blocks.grid, blocks.blocks, blocks.scale) == (16 // 4, 3, (0.1, 0.2))
    assert (blocks.aspect, blocks.context_scale) == ((0.5, 2.0), (0.7, 0.9))
    assert (spans.hidden, spans.span) == (0.25, 2)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("{name: sigreg, weight: 0.3, slices: 7}", SIGReg),
        ("{name: vicreg, weight: 0.3}", VICReg),
        ("{name: visreg, weight: 0.3, slices: 7}", VISReg),
        ("{name: none}", None),
        ("{name: sigreg, weight: 0}", None),
    ],
)
def test_regularizers_go_by_their_names(settings: str, kind: type[Any] | None) -> None:
    made = tijepa(f"objective.regularize_text={settings}").regularizers["text"]
    if kind is None:
        assert made is None
    else:
        assert made is not None
        assert isinstance(made.penalty, kind)
        assert made.weight == 0.3
        if isinstance(made.penalty, (SIGReg, VISReg)):
            assert made.penalty.slices == 7


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_wanted_precision_is_taken(precision: str, dtype: torch.dtype) -> None:
    compute = resolve_compute(small(f"compute.precision={precision}"))
    assert compute.device == torch.device("cpu")
    assert compute.precision is dtype
    with compute.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is dtype


def test_automatic_choices_are_possible_ones() -> None:
    compute = resolve_compute(small("compute.device=auto", "compute.precision=auto"))
    assert torch.empty(1, device=compute.device).device.type == compute.device.type
    assert compute.precision in (torch.float32, torch.bfloat16)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"compute\.device is 'cuda:7', which cannot") as error:
        resolve_compute(small("compute.device=cuda:7"))
    assert "\n" not in str(error.value)


def test_counted_parameters_are_the_trained_ones() -> None:
    config = small("objective.pooled_targets=ema")
    model = build_model(config, 70)
    counts = parameter_counts(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(counts.values()) == trained
    # width 12, 70 words, one block: 12·36+36, 12·12+12, 12·48+48, 48·12+12, 3 norms of 24
    assert counts["text encoder"] == 840 + 468 + 156 + 624 + 588 + 72
