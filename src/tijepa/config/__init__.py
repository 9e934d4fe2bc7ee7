"""The typed configuration of one run. Imports no torch.

A run configuration comes from a preset (a YAML file in `tijepa/presets`), a YAML file of the
user's, and overrides such as `optim.lr=3e-4`, later ones winning. It ends at `training/build.py`:
no module and no objective ever sees it.

`sections.py`, `objectives.py` and `run.py` hold every setting with its bounds and default;
`choices.py` makes one of the registered parts a choice, `unused_settings.py` says which settings
the others make irrelevant, `layers.py` builds a configuration from its sources, and `yaml_io.py` is
the YAML that all of them speak.
"""

from __future__ import annotations

from tijepa.config.layers import load_config, preset_names, resumed_config
from tijepa.config.objectives import ObjectiveConfig, RegularizerConfig, TIJEPAConfig
from tijepa.config.run import RunConfig
from tijepa.config.sections import (
    ADOPTED,
    HeadConfig,
    ImageEncoderConfig,
    ModelConfig,
    OptimConfig,
    TextEncoderConfig,
)

__all__ = [
    "ADOPTED",
    "HeadConfig",
    "ImageEncoderConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "RegularizerConfig",
    "RunConfig",
    "TIJEPAConfig",
    "TextEncoderConfig",
    "load_config",
    "preset_names",
    "resumed_config",
]
