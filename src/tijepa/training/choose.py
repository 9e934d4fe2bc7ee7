"""What a run is where nothing but its data are named: the best start that these data allow.

Encoders that others trained on millions of images beat any that a few thousand photos can teach, so
they are taken wherever they can be had; from scratch pays from about a hundred thousand pairs on.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tijepa.config import RunConfig, TIJEPAConfig, load_config
from tijepa.config.objectives import CLOSED_FORM, pooled_weights
from tijepa.errors import ConfigError, TijepaError
from tijepa.io.formatting import duration
from tijepa.io.progress import Reporter
from tijepa.model.pretrained.weights import PACKAGES, alias_of, where_is
from tijepa.runs.record import open_run_data

FROM_SCRATCH = 100_000  # training images from which encoders of one's own can be learned
CLOSED_FORM_UP_TO = 2000  # training images, to which heads add nothing (docs/log.md)
EPOCHS = 10  # of the heads on frozen encoders: later ones gain nothing (docs/log.md)
_STEPS = (100, 20_000)  # of the heads, at least and at most
_TRAINED = ("optim.", "objective.", "guard.", "model.head", "model.pooled_predictor")
_OWN = ("width", "depth", "heads", "mlp_ratio", "patch_size", "stem", "encoder")


def configured(
    preset: str | None, file: Path | None, settings: Sequence[str], reporter: Reporter
) -> RunConfig:
    """The configuration of a new run; chosen by its data where neither preset nor file is given.

    `settings` are `section.key=value` strings and stand above what is chosen. Data are opened for
    it, which prepares them into the cache where they are no store. The drawn scenes have settings
    of their own, and so has whoever sets the architecture of an encoder or takes an objective that
    trains one encoder alone: these start from scratch. Who names both encoders and sets what is
    learned on them has chosen already. `reporter` is told what was chosen, why, and
    what it costs. Raises the errors of `load_config` and `open_run_data`; `ConfigError` where a
    package is missing that pretrained encoders need.
    """
    if preset is None and file is None and _value("objective.name", settings) == CLOSED_FORM:
        preset = "photos-closed-form"
        reporter.say(f"chooses   preset {preset}, as objective.name is '{CLOSED_FORM}'")
    config = load_config(preset, file, settings)
    if preset is not None or file is not None or config.data.source == "scenes":
        return config
    if _is_whole(settings):
        return config
    own = _asks_for_own_encoders(config, settings)
    if own is not None:
        reporter.say(f"chooses   encoders from scratch, as {own} asks for them")
        return config
    splits = open_run_data(config, None, reporter)
    count = len(splits.split("train"))
    if count >= FROM_SCRATCH:
        name = "photos-small" if torch.cuda.is_available() else "photos-tiny"
        reporter.say(
            f"chooses   preset {name}: {count:,} training images are enough to train encoders from"
            f" scratch; with pretrained ones: preset={_frozen_preset()}"
        )
        return load_config(name, None, settings)
    why = f"{count:,} training images are too few to train encoders from scratch (about"
    name, what = _frozen_preset(), "heads on pretrained encoders"
    if count < CLOSED_FORM_UP_TO and not any(one.startswith(_TRAINED) for one in settings):
        name, what = "photos-closed-form", "regression between pretrained encoders"
    config = load_config(name, None, [*_fitted(name, count), *settings])
    reporter.say(f"chooses   preset {name}: {what}, for {why} {FROM_SCRATCH:,})")
    if name == "photos-closed-form":
        reporter.say(
            f"          heads add nothing to it below {CLOSED_FORM_UP_TO:,} images; with them:"
            f" preset={_frozen_preset()}"
        )
    _announce(config, count, reporter)
    return config


def _is_whole(settings: Sequence[str]) -> bool:
    """Whether both encoders are named and the heads or predictors between them are set."""
    named = all(_value(f"model.{modality}.backbone", settings) for modality in ("image", "text"))
    return named and any(one.startswith(("model.head.", "model.pooled_pred")) for one in settings)


def _value(key: str, settings: Sequence[str]) -> str | None:
    """What the settings give for a key, as text; the last one counts."""
    given = {name: value for name, _, value in (one.partition("=") for one in settings)}
    return given[key].strip("\"'") if key in given else None


def _asks_for_own_encoders(config: RunConfig, settings: Sequence[str]) -> str | None:
    """The setting that only an encoder from scratch has, where one is among them."""
    for key, _, value in (setting.partition("=") for setting in settings):
        section, _, name = key.rpartition(".")
        none = name == "backbone" and value in ("null", "~", "")
        if section in ("model.image", "model.text") and (name in _OWN or none):
            return key
    objective = config.objective
    if isinstance(objective, TIJEPAConfig) and not pooled_weights(objective):
        return "objective.name"  # I-JEPA and its mirror image train the encoder itself
    return None


def _frozen_preset() -> str:
    return "photos-frozen-gpu" if torch.cuda.is_available() else "photos-frozen"


def _fitted(preset: str, count: int) -> list[str]:
    """Steps and batch by the number of training images, and the text encoder that lies here."""
    settings: dict[str, Any] = {}
    base = load_config(preset)
    if base.objective.name != CLOSED_FORM:
        batch = max(2, min(base.optim.batch_size, count))
        steps = min(max(round(EPOCHS * count / batch), _STEPS[0]), _STEPS[1])
        settings["optim.batch_size"] = batch
        settings["optim.steps"] = steps
        settings["log.eval_every"] = settings["log.save_every"] = max(1, steps // 2)
    text = base.model.text.backbone
    if text in PACKAGES and importlib.util.find_spec(PACKAGES[text]) is None:
        settings["model.text.backbone"] = "minilm"
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def _announce(config: RunConfig, count: int, reporter: Reporter) -> None:
    """Say where the encoders come from and about how long their features take."""
    towers = {"image": config.model.image, "text": config.model.text}
    for modality, tower in towers.items():
        assert tower.backbone is not None
        try:
            where = where_is(tower.backbone)
        except TijepaError as error:
            raise ConfigError(
                f"{error}; that is for pretrained encoders, or train from scratch, which needs far"
                " more pairs: preset=photos-tiny"
            ) from None
        reporter.say(f"{modality:<9} encoder {tower.backbone} ({where})")
    known = alias_of(config.model.image.backbone)
    if known is not None:
        views = 5 if config.model.image.views == "corners" else 1
        seconds = count * views * known.gflop / (0.5 * _gflop_per_second())
        reporter.say(
            f"cost      about {duration(seconds)} for the features of {count:,} images, once; then"
            " seconds to minutes"
        )


def _gflop_per_second() -> float:
    """What one matrix product of this machine's processor gives, of which encoders reach half."""
    x = torch.randn(768, 768)
    x @ x
    start = time.perf_counter()
    for _ in range(4):
        x @ x
    return float(4 * 2 * 768**3 / 1e9 / max(time.perf_counter() - start, 1e-6))
