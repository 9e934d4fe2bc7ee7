"""Everything that defines a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from tijepa.config.choices import choices
from tijepa.config.objectives import (
    CLOSED_FORM,
    OBJECTIVE,
    ObjectiveConfig,
    TIJEPAConfig,
    fixed_settings,
)
from tijepa.config.sections import (
    ADOPTED,
    ComputeConfig,
    DataConfig,
    GuardConfig,
    ImageEncoderConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    TextEncoderConfig,
)
from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers, leaves, put, remove, write_yaml
from tijepa.registry import Section, on_new_name


class RunConfig(Section):
    """Everything that defines a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    plugins: tuple[str, ...] = ()  # packages to import, which register parts named below
    evaluations: tuple[str, ...] = ()  # registered ones, of the finished model
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: Annotated[ObjectiveConfig, OBJECTIVE] = OBJECTIVE.make()
    optim: OptimConfig = OptimConfig()
    guard: GuardConfig = GuardConfig()
    compute: ComputeConfig = ComputeConfig()
    log: LogConfig = LogConfig()

    def differences(self, run: RunConfig) -> Iterator[tuple[str, Any, Any]]:
        """Settings in which a stored `run` differs from this one: key, value here, value there.

        Without those that the run took from its image backbone because this one leaves them open.
        """
        adopted = set()
        if run.model.image.backbone is not None:
            adopted = {f"data.{name}" for name in ADOPTED if name not in self.data.model_fields_set}
        here, there = self.settings(), run.settings()
        for key in dict.fromkeys([*there, *here]):
            ours, theirs = here.get(key), there.get(key)
            if ours != theirs and key not in adopted and key != "plugins":
                yield key, ours, theirs

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """Add what the named objective fixes, and refuse what contradicts it."""
        if not isinstance(values, Mapping):
            return values
        given = _plain(values)
        flat = dict(leaves(given))
        for key, fixed in fixed_settings(flat).items():
            for own in (own for own in flat if covers(key, own)):
                if flat[own] != fixed:
                    raise ValueError(
                        f"{own} is {flat[own]!r}, but objective.name '{flat['objective.name']}' "
                        f"fixes it to {fixed!r}: remove it, or use objective.name=tijepa"
                    )
            put(given, key, fixed)
        return given

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        size, image = self.data.image_size, self.model.image
        patch = image.patch_size
        if image.backbone is None and image.encoder is None and size % patch:
            raise ValueError(
                f"data.image_size {size} is not divisible by model.image.patch_size {patch}"
            )
        evaluations = -(-self.optim.steps // self.log.eval_every)
        if self.guard.action != "warn" and self.guard.patience > evaluations:
            raise ValueError(
                f"guard.patience {self.guard.patience} exceeds the {evaluations} evaluations of the"
                f" run, so guard.action '{self.guard.action}' never happens: lower guard.patience"
                " or log.eval_every"
            )
        if self.objective.name == CLOSED_FORM:
            for name, tower in (("image", self.model.image), ("text", self.model.text)):
                if tower.backbone is None or tower.train != "frozen":
                    raise ValueError(
                        f"objective.name '{CLOSED_FORM}' stands on frozen pretrained encoders: set"
                        f" model.{name}.backbone, and leave model.{name}.train at frozen"
                    )
        idle = without_effect(self.settings().get)
        for key, _ in leaves(self.model_dump(exclude_unset=True)):
            for section, reason in idle.items():
                if covers(section, key):
                    raise ValueError(f"{key} has no effect because {reason}: remove it")
        return self

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted key, e.g. `{"optim.lr": 0.001}`, in order of definition."""
        return dict(leaves(self.model_dump()))

    def to_yaml(self) -> str:
        """YAML that `load_config` reads back to an equal configuration.

        It holds every setting except those without effect.
        """
        values = self.model_dump(mode="json")
        idle = without_effect(self.settings().get)
        for key in self.settings():
            if any(covers(section, key) for section in idle):
                remove(values, key)
        return write_yaml(values)


def _plain(values: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """A copy with sections as mappings of what was given in them, and the names of choices."""
    if isinstance(values, BaseModel):
        given = {"name", "kind"} & type(values).model_fields.keys() | values.model_fields_set
        values = {name: getattr(values, name) for name in given}
    return {
        name: _plain(value) if isinstance(value, Mapping | BaseModel) else value
        for name, value in values.items()
    }


def _build_anew(kind: str) -> None:
    """Make the name that has come up one that a configuration may choose."""
    if kind in _CHOSEN:
        for inner in (ImageEncoderConfig, TextEncoderConfig, ModelConfig, TIJEPAConfig):
            inner.model_rebuild(force=True)
        RunConfig.model_rebuild(force=True)


_CHOSEN = {one_of.kind for _, one_of in choices(RunConfig)}
on_new_name(_build_anew)
