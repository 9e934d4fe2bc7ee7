"""The library transformers: which class a `config.json` means, and its pretrained weights.

A description of a network is a mapping: `config` holds the values of its `config.json`, and `code`
the folder of Python code that comes with it, None for a network of the library itself.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.model.backbones.folder import BackboneFolder

__all__ = ["config_of", "describe", "library", "new_network", "pretrained"]

# where the class that AutoModel takes is more than an encoder
_CLASSES = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
_INSIDE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # the vision half of both
_TRUST = "TIJEPA_TRUST_REMOTE_CODE"
_trusted: set[str] = set()  # folders whose code a setting of this process allowed


def library() -> Any:
    """The module `transformers`; `MissingExtraError` where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    return transformers


def describe(folder: BackboneFolder, *, trust_remote_code: bool) -> dict[str, Any]:
    """The description of the encoder in a folder; the vision half where it holds both halves.

    Raises `ConfigError` where the library does not know it; where the folder brings code for it
    instead, that must be allowed.
    """
    transformers = library()
    config = folder.json("config.json")
    kind = config["model_type"]
    if kind in _INSIDE:
        config = {**config.get("vision_config", {}), "model_type": _INSIDE[kind]}
    if config["model_type"] in transformers.CONFIG_MAPPING:
        return {"config": config, "code": None}
    if "AutoModel" not in config.get("auto_map", {}):
        raise ConfigError(
            f"backbone '{folder.name}' is of model_type '{kind}', which transformers "
            f"{transformers.__version__} does not know: install a version that does"
        )
    if not trust_remote_code:
        raise ConfigError(
            f"backbone '{folder.name}' is of model_type '{kind}', which comes as code of its own: "
            "read that code, then set trust_remote_code=true beside the backbone to run it"
        )
    code = str(folder.path.absolute())
    _trusted.add(code)
    return {"config": config, "code": code}


def config_of(description: Mapping[str, Any]) -> Any:
    """The configuration object of a network."""
    transformers = library()
    if description["code"] is not None:
        _check_trusted(description["code"])
        return transformers.AutoConfig.from_pretrained(description["code"], trust_remote_code=True)
    values = dict(description["config"])
    built = transformers.CONFIG_MAPPING[values.pop("model_type")].from_dict(values)
    built._attn_implementation = "sdpa"
    return built


def new_network(description: Mapping[str, Any], config: Any) -> nn.Module:
    """The network of a configuration object, its weights random, without the layer that pools."""
    net: nn.Module = _class_of(description)._from_config(config)
    return _without_pooler(net)


def pretrained(folder: BackboneFolder, description: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of the network with the weights of the folder, in float32.

    Raises `ConfigError` where weights of the network are missing there.
    """
    with _quiet():
        model, report = _class_of(description).from_pretrained(
            folder.path,
            config=config_of(description),
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ConfigError(
            f"backbone '{folder.name}' lacks {len(missing)} weights of its "
            f"{description['config']['model_type']}, such as {missing[0]}: give a folder that holds"
            " the encoder's weights"
        )
    state: dict[str, Tensor] = _without_pooler(model).state_dict()
    return state


def _class_of(description: Mapping[str, Any]) -> Any:
    transformers = library()
    config, code = description["config"], description["code"]
    if code is not None:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        _check_trusted(code)
        return get_class_from_dynamic_module(config["auto_map"]["AutoModel"], code)
    kind = config["model_type"]
    if kind in _CLASSES:
        return getattr(transformers, _CLASSES[kind])
    return transformers.AutoModel._model_mapping[transformers.CONFIG_MAPPING[kind]]


def _check_trusted(code: str) -> None:
    if code not in _trusted and os.environ.get(_TRUST) != "1":
        raise ConfigError(
            f"this model runs code from {code}: read it, and set the environment variable "
            f"{_TRUST}=1 if you trust it"
        )


def _without_pooler(net: nn.Module) -> nn.Module:
    """Many checkpoints lack the weights of this layer, which tijepa does not use."""
    if isinstance(getattr(net, "pooler", None), nn.Module):
        net.pooler = None  # type: ignore[assignment]
    return net


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
