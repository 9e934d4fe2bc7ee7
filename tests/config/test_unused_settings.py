from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tijepa.config import RunConfig, TIJEPAConfig, load_config
from tijepa.config.choices import stray_keys
from tijepa.config.objectives import fixed_settings
from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers, read_yaml, write_yaml
from tijepa.errors import ConfigError

INFILL = "objective.tasks.image_infill=1"
FROZEN = ("model.image.backbone=x", "model.text.backbone=y")
FUSED = "objective.tasks.fusion_infill=1"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["objective.name=clip", INFILL], "objective.name is 'clip'"),
        (["objective.name=clip", "objective.energy=cosine"], "objective.name is 'clip'"),
        (["objective.name=siglip", "objective.energy=cosine"], "objective.name is 'siglip'"),
        (["objective.name=clip", "objective.pooled_targets=ema"], "objective.name"),
        (["objective.name=clip", "objective.token_targets=ema"], "objective.name"),
        (["objective.name=siglip", "objective.pooled_target_norm=layer"], "objective.name"),
        (["objective.name=vicreg", "objective.regularize_image.weight=0.1"], "objective.name"),
        (["objective.name=vicreg", "model.pooled_predictor.depth=2"], "objective.name"),
        (["objective.name=ijepa", "objective.pooled_target_norm=center"], "no pooled task"),
        (["objective.name=ijepa", "objective.regularize_image.slices=9"], "name is 'none'"),
        (["objective.name=levljepa", "optim.ema_momentum=[0.9, 1.0]"], "no target"),
        (["objective.name=clip", "objective.regularize_image.weight=0.1"], "objective.name"),
        (["objective.name=clip", "objective.regularize_text.name=none"], "objective.name"),
        (["objective.name=clip", "objective.masks.text_span=2"], "objective.name"),
        (["objective.name=clip", "model.pooled_predictor.depth=2"], "objective.name"),
        (["objective.name=clip", "model.token_predictor.depth=2"], "objective.name"),
        (["objective.name=clip", "optim.ema_momentum=[0.9, 1.0]"], "objective.name"),
        (["optim.ema_momentum=[0.9, 1.0]"], "no target of a weighted task is an EMA"),
        (
            [INFILL, "objective.token_targets=stop_gradient", "optim.ema_momentum=[0.9, 1.0]"],
            "no target of a weighted task is an EMA",
        ),
        (["model.pooled_predictor.memory=9"], "kind is 'mlp'"),
        (["model.pooled_predictor={kind: covariance, depth: 2}"], "kind is 'covariance'"),
        (
            ["model.pooled_predictor.kind=covariance", "objective.energy=cosine"],
            "no token-level task has a weight",
        ),
        (["objective.masks.target_blocks=2"], "none of image_infill, image_only and"),
        (["objective.masks.text_hidden=0.2"], "neither text_infill nor text_only"),
        ([INFILL, "objective.masks.text_hidden=0.2"], "neither text_infill nor text_only"),
        (["model.token_predictor.depth=2"], "no token-level task"),
        (["objective.token_targets=ema"], "no token-level task"),
        (["model.fusion.depth=3"], "fusion_infill has no weight"),
        ([FUSED, "objective.token_targets=ema"], "only fusion_infill has a weight"),
        (["objective.name=clip", "model.fusion.depth=3"], "objective.name is 'clip'"),
        (
            [
                INFILL,
                "objective.tasks.text_to_image.pooled=0",
                "objective.tasks.image_to_text.pooled=0",
                "objective.pooled_targets=ema",
            ],
            "no pooled task",
        ),
        (
            ["objective.regularize_image={name: none, weight: 0.1}"],
            "objective.regularize_image.name is 'none'",
        ),
        (["objective.regularize_text={name: vicreg, slices: 9}"], "name is 'vicreg'"),
        (
            ["objective.regularize_image={weight: 0, variance: 3}"],
            "objective.regularize_image.weight is 0",
        ),
        (["objective.regularize_text={weight: 0, slices: 9}"], "regularize_text.weight is 0"),
        (["model.head={depth: 0, hidden: 9}"], "model.head.depth is 0"),
        (["model.head={depth: 0, skip: true}"], "model.head.depth is 0"),
        (["model.pooled_predictor={depth: 0, norm: none}"], "model.pooled_predictor.depth is 0"),
        (["data.max_bad=0.5"], "data.source is 'scenes'"),
        (["guard.patience=3"], "guard.action is 'warn'"),
        (["guard.action=warn", "guard.max_rollbacks=1"], "guard.action is 'warn'"),
        (["guard.action=stop", "guard.lr_factor=0.1"], "guard.action is 'stop'"),
        (["model.image.train=lora"], "model.image.backbone is not set"),
        (["model.image.views=corners"], "model.image.backbone is not set"),
        (["model.text.trust_remote_code=true"], "model.text.backbone is not set"),
        (["model.image={backbone: x, width: 64}"], "model.image.backbone has its own architecture"),
        (["model.text={backbone: x, depth: 2}"], "model.text.backbone has its own architecture"),
        (["model.text={backbone: x, last_k: 1}"], "model.text.train is 'frozen'"),
        (["model.text={backbone: x, lr_scale: 0.1}"], "model.text.train is 'frozen'"),
        (["model.text={backbone: x, train: full, lora_rank: 4}"], "model.text.train is 'full'"),
        (["model.text.backbone=x", "data.vocab_size=99"], "has its own tokenizer"),
        (["data.cache_features=false"], "no encoder is a frozen backbone"),
        (
            [*FROZEN, "compute.gradient_checkpointing=true"],
            "both encoders are frozen backbones, and no token-level task has a weight",
        ),
        (
            [*FROZEN, "objective.name=clip", "compute.gradient_checkpointing=true"],
            "both encoders are frozen backbones",
        ),
        (["data.augment=device"], "data.crop_scale is [1, 1] and data.flip is false"),
    ],
)
def test_a_setting_without_effect_is_an_error(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match="has no effect because") as caught:
        load_config(overrides=overrides)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective.pooled_targets=ema", "optim.ema_momentum=[0.9, 1.0]"],
        [INFILL, "optim.ema_momentum=[0.9, 1.0]", "model.token_predictor.depth=3"],
        ["objective.tasks.image_only=1", "objective.masks.target_blocks=2"],
        ["objective.tasks.text_only=1", "objective.masks.text_span=2"],
        ["objective.tasks.text_to_image.tokens=1", "objective.token_targets=stop_gradient"],
        ["objective.regularize_image.weight=0"],
        ["objective.regularize_text={name: visreg, slices: 9}"],
        ["objective.pooled_target_norm=center"],
        ["objective.name=levljepa", "objective.regularize_image.slices=9"],
        ["objective.name=ijepa", "objective.masks.target_blocks=2"],
        ["objective.name=clip", "optim.lr=1e-3", "model.head.depth=2"],
        ["data.source=photos", "data.max_bad=0.5"],
        [*FROZEN, FUSED, "compute.gradient_checkpointing=true"],
        [*FROZEN, "model.image.train=lora", "compute.gradient_checkpointing=true"],
        ["guard.action=stop", "guard.patience=3"],
        ["guard={action: rollback, lr_factor: 0.1, max_rollbacks: 1, patience: 1}"],
    ],
)
def test_a_setting_with_effect_is_accepted(overrides: list[str]) -> None:
    assert load_config(overrides=overrides) != RunConfig()


def test_a_setting_without_effect_is_an_error_in_python_too() -> None:
    with pytest.raises(ValidationError, match=r"data\.max_bad has no effect"):
        RunConfig.model_validate({"data": {"max_bad": 0.5}})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RunConfig.model_validate({"objective": {"name": "clip", "energy": "cosine"}})


def test_a_later_layer_drops_what_it_makes_irrelevant(tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text(
        "optim: {lr: 0.5, ema_momentum: [0.5, 1.0]}\n"
        "objective: {pooled_targets: ema, regularize_image: {weight: 0.5, slices: 7}}\n"
    )
    clip = load_config(file=file, overrides=["objective.name=clip"])
    assert clip == load_config(overrides=["objective.name=clip", "optim.lr=0.5"])
    ijepa = load_config(file=file, overrides=["objective.name=ijepa"])
    assert ijepa.settings()["objective.regularize_image.name"] == "none"
    vicreg = load_config(file=file, overrides=["objective.regularize_image.name=vicreg"])
    assert isinstance(vicreg.objective, TIJEPAConfig)
    assert vicreg.objective.regularize_image.model_dump() == {"name": "vicreg", "weight": 0.5}
    assert vicreg.optim.ema_momentum == (0.5, 1.0)


_SELECTORS = {
    "data.source": st.sampled_from(["scenes", "photos", "3e4", "2026-01-31", "yes", "a: b"]),
    "objective.name": st.sampled_from(["tijepa", "ijepa", "levljepa", "vicreg", "clip", "siglip"]),
    "objective.tasks.text_to_image.pooled": st.sampled_from([0.0, 0.5]),
    "objective.tasks.image_to_text.tokens": st.sampled_from([0.0, 0.5]),
    "objective.tasks.image_infill": st.sampled_from([0.0, 2.0]),
    "objective.tasks.text_only": st.sampled_from([0.0, 1.0]),
    "objective.pooled_targets": st.sampled_from(["ema", "stop_gradient"]),
    "objective.token_targets": st.sampled_from(["ema", "stop_gradient"]),
    "objective.pooled_target_norm": st.sampled_from(["none", "center", "standardise", "layer"]),
    "objective.regularize_image.name": st.sampled_from(["none", "sigreg", "vicreg", "visreg"]),
    "model.head.depth": st.integers(0, 2),
    "guard.action": st.sampled_from(["warn", "stop", "rollback"]),
}
_OTHERS = {
    "guard.patience": st.integers(1, 4),
    "guard.lr_factor": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "data.max_bad": st.floats(0, 1),
    "data.flip": st.booleans(),
    "model.head.hidden": st.integers(1, 4096),
    "model.token_predictor.mlp_ratio": st.floats(0, exclude_min=True, allow_infinity=False),
    "objective.masks.text_hidden": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "objective.masks.target_blocks": st.integers(1, 9),
    "objective.regularize_image.weight": st.floats(0, allow_infinity=False),
    "objective.regularize_image.slices": st.integers(1, 999),
    "optim.lr": st.floats(0, exclude_min=True, allow_infinity=False),
    "optim.betas": st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(list),
    "optim.ema_momentum": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(list),
    "compute.device": st.sampled_from(["auto", "cpu", "cuda:1"]),
}


def _valid(values: dict[str, Any]) -> list[str]:
    """Settings of a valid configuration: what others make irrelevant or fix is left out."""
    fixed = fixed_settings(values)
    values = {key: value for key, value in values.items() if key not in fixed}
    effective = {**RunConfig().settings(), **values, **fixed}
    stray, idle = stray_keys(RunConfig, {**values, **fixed}), without_effect(effective.get)
    kept = {
        key: value
        for key, value in values.items()
        if key not in stray and not any(covers(section, key) for section in idle)
    }
    return [f"{key}={write_yaml([value])[1:-2]}" for key, value in kept.items()]


@settings(deadline=None, max_examples=60)
@given(
    selectors=st.fixed_dictionaries({}, optional=_SELECTORS),
    others=st.fixed_dictionaries({}, optional=_OTHERS),
)
def test_every_valid_configuration_reads_back_equal(
    selectors: dict[str, Any], others: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = load_config(overrides=_valid(selectors | others))
    file = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(file=file) == config


def test_yaml_leaves_out_what_has_no_effect() -> None:
    written = read_yaml(load_config(overrides=["objective.name=clip"]).to_yaml())
    assert written["objective"] == {"name": "clip"}
    assert "pooled_predictor" not in written["model"]
    assert "ema_momentum" not in written["optim"]
    assert written["optim"]["lr"] == RunConfig().optim.lr
