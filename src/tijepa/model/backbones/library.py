"""The library transformers: which class a `config.json` means, and its pretrained weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.model.backbones.folder import BackboneFolder

__all__ = ["config_of", "library", "model_class", "pretrained"]

# where the class that AutoModel takes is more than an encoder
_CLASSES = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
_INSIDE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # the vision half of both


def library() -> Any:
    """The module `transformers`; `MissingExtraError` where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    return transformers


def config_of(config: Mapping[str, Any]) -> Any:
    """The configuration object of the values of a `config.json`."""
    transformers = library()
    values = dict(config)
    kind = values.pop("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise ConfigError(
            f"backbone of model_type '{kind}', which transformers {transformers.__version__} does "
            "not know: install a version that does"
        )
    built = transformers.CONFIG_MAPPING[kind].from_dict(values)
    built._attn_implementation = "sdpa"
    return built


def model_class(config: Mapping[str, Any]) -> Any:
    """The class of the encoder."""
    transformers = library()
    kind = config["model_type"]
    if kind in _CLASSES:
        return getattr(transformers, _CLASSES[kind])
    return transformers.AutoModel._model_mapping[transformers.CONFIG_MAPPING[kind]]


def encoder_config(folder: BackboneFolder) -> dict[str, Any]:
    """The values of `config.json`, of the vision half where the folder holds both halves."""
    config = folder.json("config.json")
    inside = _INSIDE.get(config.get("model_type", ""))
    if inside is None:
        return config
    return {**config.get("vision_config", {}), "model_type": inside}


def pretrained(folder: BackboneFolder, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of the encoder with the weights of the folder, in float32.

    Raises `ConfigError` where weights of the encoder itself are missing there.
    """
    with _quiet():
        model, report = model_class(config).from_pretrained(
            folder.path,
            config=config_of(config),
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ConfigError(
            f"backbone '{folder.name}' lacks {missing[0]} and {len(missing) - 1} more weights of "
            f"its {config['model_type']}: give a folder with the encoder's weights"
        )
    state: dict[str, Tensor] = model.state_dict()
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and reports, which are put back afterwards."""
    logging = library().utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
