"""The typed configuration of one run. Imports no torch.

A run configuration comes from a preset (a YAML file in `tijepa/presets`), a YAML file of the
user's, and overrides such as `optim.lr=3e-4`, later ones winning. It ends at `train/build.py`:
no module and no objective ever sees it.

`sections.py` holds every setting with its bounds and default, `effect.py` says which settings the
others make irrelevant, `layers.py` builds a configuration from its sources, `dialect.py` is the
YAML that all of them speak, `keys.py` walks dotted keys.
"""

from __future__ import annotations

from tijepa.config.layers import load_config, preset_names
from tijepa.config.sections import (
    ADOPTED,
    ComputeConfig,
    CrossModalTaskConfig,
    DataConfig,
    FusionConfig,
    GuardConfig,
    HeadConfig,
    ImageEncoderConfig,
    LogConfig,
    MaskConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PooledPredictorConfig,
    RegularizerConfig,
    RunConfig,
    TasksConfig,
    TextEncoderConfig,
    TokenPredictorConfig,
)

__all__ = [
    "ADOPTED",
    "ComputeConfig",
    "CrossModalTaskConfig",
    "DataConfig",
    "FusionConfig",
    "GuardConfig",
    "HeadConfig",
    "ImageEncoderConfig",
    "LogConfig",
    "MaskConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PooledPredictorConfig",
    "RegularizerConfig",
    "RunConfig",
    "TasksConfig",
    "TextEncoderConfig",
    "TokenPredictorConfig",
    "load_config",
    "preset_names",
]
