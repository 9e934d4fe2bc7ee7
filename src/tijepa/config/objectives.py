"""What is minimised: one section for each mechanism, and the weights of its energies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import model_serializer, model_validator

from tijepa.config.choices import OneOf
from tijepa.config.sections import ordered
from tijepa.config.yaml_io import leaves
from tijepa.registry import (
    InnerFraction,
    NonNegative,
    Positive,
    PositiveFraction,
    PositiveInt,
    Section,
)


class CrossModalTaskConfig(Section):
    """Weights of a cross-modal task: its pooled and its token-level energy."""

    pooled: NonNegative = 1.0
    tokens: NonNegative = 0.0


class TasksConfig(Section):
    """Weight of each task; 0 leaves the task out altogether."""

    text_to_image: CrossModalTaskConfig = CrossModalTaskConfig()
    image_to_text: CrossModalTaskConfig = CrossModalTaskConfig()
    image_infill: NonNegative = 0.0
    text_infill: NonNegative = 0.0
    image_only: NonNegative = 0.0
    text_only: NonNegative = 0.0
    fusion_infill: NonNegative = 0.0


class MaskConfig(Section):
    """Blocks of patches (multi-block masking, I-JEPA) and spans of tokens."""

    target_blocks: PositiveInt = 4
    target_scale: tuple[PositiveFraction, PositiveFraction] = (0.15, 0.2)
    target_aspect: tuple[Positive, Positive] = (0.75, 1.5)
    context_scale: tuple[PositiveFraction, PositiveFraction] = (0.85, 1.0)
    text_hidden: InnerFraction = 0.4  # share of a caption's tokens that is hidden, in spans
    text_span: PositiveInt = 3  # mean length of a hidden span, in tokens

    @model_validator(mode="after")
    def _check(self) -> MaskConfig:
        for name in ("target_scale", "target_aspect", "context_scale"):
            ordered(name, getattr(self, name))
        return self


class EnergyConfig(Section):
    """How a prediction is compared with its target; a name alone where there is nothing to set."""

    name: str

    @model_serializer(mode="wrap")
    def _name_alone(self, handler: Callable[[Any], Any]) -> Any:
        values = handler(self)
        return self.name if len(values) == 1 else values


class RegularizerConfig(Section):
    """Anti-collapse term on the pooled embeddings of one modality, or "none"."""

    name: str


class PenaltyConfig(RegularizerConfig):
    """A registered one, whose own settings stand beside its weight λ."""

    weight: NonNegative = 0.05


class _NoRegularizer(RegularizerConfig):
    name: Literal["none"] = "none"


ENERGY = OneOf("energy", EnergyConfig, "squared_l2")
REGULARIZER = OneOf("regularizer", PenaltyConfig, "sigreg", own=(("none", _NoRegularizer),))


class ObjectiveConfig(Section):
    """The name of an objective; a registered one has its own settings beside it."""

    name: str


class TIJEPAConfig(ObjectiveConfig):
    """Prediction by tasks; `FIXED` says what ijepa, levljepa and closed_form fix of it."""

    name: Literal["tijepa", "ijepa", "levljepa", "closed_form"] = "tijepa"
    tasks: TasksConfig = TasksConfig()
    energy: Annotated[EnergyConfig, ENERGY] = ENERGY.make()
    pooled_targets: Literal["ema", "stop_gradient"] = "stop_gradient"
    pooled_target_norm: Literal["none", "center", "standardise", "layer"] = "none"
    token_targets: Literal["ema", "stop_gradient"] = "ema"
    masks: MaskConfig = MaskConfig()
    regularize_image: Annotated[RegularizerConfig, REGULARIZER] = REGULARIZER.make()
    regularize_text: Annotated[RegularizerConfig, REGULARIZER] = REGULARIZER.make()

    @model_validator(mode="after")
    def _check(self) -> TIJEPAConfig:
        if not any(weight for _, weight in leaves(self.tasks.model_dump())):
            raise ValueError("every task has weight 0: nothing is learned; raise at least one")
        return self


# Objectives that are fixed settings of one mechanism.
#
# `ijepa`, `levljepa` and `closed_form` run the code of `tijepa`, tasks, energy, targets and
# regularizers, with the settings below and no others. Naming one gives them these values; a value
# that contradicts them is an error, since the run would no longer be what its name says. What
# stands not here stays free.

_POOLED_ALONE: dict[str, Any] = {  # each pooled embedding predicted from the other's
    "objective.tasks.text_to_image.pooled": 1.0,
    "objective.tasks.text_to_image.tokens": 0.0,
    "objective.tasks.image_to_text.pooled": 1.0,
    "objective.tasks.image_to_text.tokens": 0.0,
    "objective.tasks.image_infill": 0.0,
    "objective.tasks.text_infill": 0.0,
    "objective.tasks.image_only": 0.0,
    "objective.tasks.text_only": 0.0,
    "objective.tasks.fusion_infill": 0.0,
    "objective.energy": "squared_l2",
    "objective.pooled_targets": "stop_gradient",
    "objective.pooled_target_norm": "none",
}

FIXED: dict[str, dict[str, Any]] = {
    # I-JEPA, arXiv 2301.08243: blocks of patches from a context block, EMA targets, no regularizer
    "ijepa": {
        "objective.tasks.text_to_image.pooled": 0.0,
        "objective.tasks.text_to_image.tokens": 0.0,
        "objective.tasks.image_to_text.pooled": 0.0,
        "objective.tasks.image_to_text.tokens": 0.0,
        "objective.tasks.image_infill": 0.0,
        "objective.tasks.text_infill": 0.0,
        "objective.tasks.image_only": 1.0,
        "objective.tasks.text_only": 0.0,
        "objective.tasks.fusion_infill": 0.0,
        "objective.token_targets": "ema",
        "objective.regularize_image.name": "none",
        "objective.regularize_text.name": "none",
    },
    # LeVLJEPA, arXiv 2607.00784: pooled embeddings, each predicted from the other's, SIGReg on both
    "levljepa": {
        **_POOLED_ALONE,
        "objective.regularize_image.name": "sigreg",
        "objective.regularize_image.weight": 0.02,
        "objective.regularize_image.by_batch": True,
        "objective.regularize_image.variance": 0.0,
        "objective.regularize_text.name": "sigreg",
        "objective.regularize_text.weight": 0.02,
        "objective.regularize_text.by_batch": True,
        "objective.regularize_text.variance": 0.0,
        "model.head.depth": 1,
        "model.head.hidden": 2048,
        "model.head.norm": "batch",
        "model.pooled_predictor.kind": "mlp",
        "model.pooled_predictor.depth": 4,
        "model.pooled_predictor.hidden": 2048,
        "model.pooled_predictor.norm": "batch",
    },
    # linear prediction of each pooled token by the other, solved instead of trained
    "closed_form": {
        **_POOLED_ALONE,
        "objective.regularize_image.name": "none",
        "objective.regularize_text.name": "none",
        "model.head.depth": 0,
        "model.pooled_predictor.kind": "mlp",
        "model.pooled_predictor.depth": 0,
    },
}
CLOSED_FORM = "closed_form"  # the one that takes no steps

OBJECTIVE = OneOf(
    "objective",
    ObjectiveConfig,
    "tijepa",
    own=tuple((name, TIJEPAConfig) for name in ("tijepa", *FIXED)),
)


def fixed_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the objective named in `values` (dotted keys) fixes; nothing for most of them."""
    name = values.get("objective.name")
    return FIXED.get(name, {}) if isinstance(name, str) else {}


def pooled_weights(objective: ObjectiveConfig) -> dict[str, float]:
    """Weights of the pooled energies that are not 0, by task; none without tasks."""
    if not isinstance(objective, TIJEPAConfig):
        return {}
    tasks = objective.tasks
    weights = {
        "text_to_image": tasks.text_to_image.pooled,
        "image_to_text": tasks.image_to_text.pooled,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def token_weights(objective: ObjectiveConfig) -> dict[str, float]:
    """Weights of the token-level energies that are not 0, by task; none without tasks."""
    if not isinstance(objective, TIJEPAConfig):
        return {}
    weights = objective.tasks.model_dump()
    both = {name: value["tokens"] for name, value in weights.items() if isinstance(value, dict)}
    return {name: weight for name, weight in (weights | both).items() if weight > 0}


def energy_names(objective: ObjectiveConfig) -> tuple[str, ...]:
    """The energies as `TASK/pooled` and `TASK/tokens`; none where the objective has no tasks."""
    pooled = (f"{task}/pooled" for task in pooled_weights(objective))
    tokens = (f"{task}/tokens" for task in token_weights(objective))
    return (*pooled, *tokens)
