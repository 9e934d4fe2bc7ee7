"""The library transformers: which class a `config.json` means, and its pretrained weights.

A description of a network is a mapping: `config` holds the values of its `config.json`, and `code`
the folder of Python code that comes with it, None for a network of the library itself.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.model.encoded import Encoded, ImageNet, TokenSubset, gather_tokens, patches_of
from tijepa.model.pretrained.open_clip import (
    WEIGHTS,
    by_transformers_names,
    clip_config,
    is_open_clip,
)
from tijepa.model.pretrained.weights import BackboneFolder, read_weights, weight_files

# where the class that AutoModel takes is more than an encoder
_CLASSES = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "clip_vision_model": "CLIPVisionModel",
    "clip_text_model": "CLIPTextModel",
    "siglip_vision_model": "SiglipVisionModel",
    "siglip_text_model": "SiglipTextModel",
}
Half = Literal["image", "text"]

# the halves of text-image models, and what maps the pooled token of a half to the shared space:
# CLIP's is a linear map beside both halves, SigLIP's lies within them
_HALVES: dict[str, dict[Half, tuple[str, str]]] = {
    "clip": {
        "image": ("vision_config", "clip_vision_model"),
        "text": ("text_config", "clip_text_model"),
    },
    "siglip": {
        "image": ("vision_config", "siglip_vision_model"),
        "text": ("text_config", "siglip_text_model"),
    },
}
_PROJECTIONS: dict[Half, str] = {"image": "visual_projection", "text": "text_projection"}
PROJECTION = "projection.weight"
_TRUST = "TIJEPA_TRUST_REMOTE_CODE"
_trusted: set[str] = set()  # folders whose code a setting of this process allowed


def library() -> Any:
    """The module `transformers`; `MissingExtraError` where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    return transformers


def describe(
    folder: BackboneFolder, modality: Half, *, trust_remote_code: bool, projected: bool = False
) -> dict[str, Any]:
    """The description of the encoder in a folder; one half where it holds both.

    With `projected` it also says how the half's pooled token comes into the space that both share:
    `projected` is the width of that space, and `linear` whether a map of its own leads there.
    Raises `ConfigError` where the library does not know it; where the folder brings code for it
    instead, that must be allowed.
    """
    transformers = library()
    config = network_config(folder)
    kind = config["model_type"]
    shared: dict[str, Any] = {}
    if kind in _HALVES:
        if projected:
            whole = config_of({"config": config, "code": None})
            linear = kind == "clip"
            width = whole.projection_dim if linear else whole.vision_config.hidden_size
            shared = {"projected": int(width), "linear": linear}
            own = width if linear else whole.text_config.projection_size
            if modality == "text" and own != width:
                raise ConfigError(
                    f"backbone '{folder.name}' projects texts to {own} numbers and images to"
                    f" {width}: leave out pool=projected"
                )
        section, half = _HALVES[kind][modality]
        config = {**config.get(section, {}), "model_type": half}
    elif projected:
        raise ConfigError(
            f"backbone '{folder.name}' is of model_type '{kind}', not a text-image model of"
            f" transformers ({', '.join(_HALVES)}) or a CLIP of open_clip: set"
            " model.image.backbone and model.text.backbone instead"
        )
    if config["model_type"] in transformers.CONFIG_MAPPING:
        return {"config": config, "code": None, **shared}
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


def network_config(folder: BackboneFolder) -> dict[str, Any]:
    """The `config.json` of a folder, or the one that open_clip's configuration amounts to."""
    return clip_config(folder) if is_open_clip(folder) else folder.json("config.json")


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


def projection(description: Mapping[str, Any], width: int) -> nn.Module:
    """The map of a half's pooled token, `width` wide, into the shared space; else the identity."""
    if not description.get("linear"):
        return nn.Identity()
    return nn.Linear(width, int(description["projected"]), bias=False)


def projection_of(
    folder: BackboneFolder, modality: Half, description: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The weight of the map into the shared space; nothing where there is none of its own."""
    if not description.get("linear"):
        return {}
    name = f"{_PROJECTIONS[modality]}.weight"
    weights = _open_clip_weights(folder) or read_weights(weight_files(folder), only=name)
    if name not in weights:
        raise ConfigError(f"backbone '{folder.name}' lacks {name}: copy it anew")
    return {PROJECTION: weights[name]}


def pretrained(folder: BackboneFolder, description: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of the network with the weights of the folder, in float32.

    Raises `ConfigError` where weights of the network are missing there.
    """
    own = _open_clip_weights(folder)
    with _quiet():
        model, report = _class_of(description).from_pretrained(
            folder.path if own is None else None,
            state_dict=own,
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


def _open_clip_weights(folder: BackboneFolder) -> dict[str, Tensor] | None:
    if not is_open_clip(folder):
        return None
    return by_transformers_names(read_weights(weight_files(folder, WEIGHTS)))


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


# Image networks of the library transformers: I-JEPA, ViT, DINOv2, DINOv3, SigLIP, CLIP.

# whose pooled output is the summary: CLIP's normed class token, SigLIP's attention pooling
_POOLED = ("clip_vision_model", "siglip_vision_model")
_NO_SUMMARY = ("ijepa",)
_RESIZES = ("vit", "ijepa", "clip_vision_model", "siglip_vision_model")  # positions, when asked
_ATTENTION = "tijepa_visible"

_visible: ContextVar[TokenSubset | None] = ContextVar("visible", default=None)


class TransformersImageNet(ImageNet):
    """A network of `last_hidden_state`, its prefix of class and register tokens taken off.

    Hidden patches are dropped between the embeddings and the first layer, and padding is kept out
    of the attention, so that every network of this family can see a part of an image. (SigLIP's
    own pooling of a part alone also reads the padding; no task uses that.)
    """

    def __init__(self, description: Mapping[str, Any], image_size: int) -> None:
        super().__init__()
        kind = description["config"]["model_type"]
        built = config_of(description)
        built._attn_implementation = _registered()
        self.inner = new_network(description, built)
        embeddings = getattr(self.inner, "embeddings", None)
        if not isinstance(embeddings, nn.Module) or not hasattr(built, "patch_size"):
            raise ConfigError(
                f"backbone of model_type '{kind}' is no vision transformer that tijepa can read: "
                "use ViT, I-JEPA, DINOv2, DINOv3, CLIP or SigLIP"
            )
        self.width = int(built.hidden_size)
        self.grid = image_size // int(built.patch_size)
        self.projected_width = int(description.get("projected", 0))
        self.projection = projection(description, self.width)
        pools = kind in _POOLED and getattr(built, "vision_use_head", True)
        self._pooled = pools
        self.has_summary = pools or (kind not in (*_NO_SUMMARY, *_POOLED))
        resizes = kind in _RESIZES and image_size != built.image_size
        self._extra = {"interpolate_pos_encoding": True} if resizes else {}
        embeddings.register_forward_hook(self._drop_hidden)
        rope = getattr(self.inner, "rope_embeddings", None)
        if isinstance(rope, nn.Module):
            rope.register_forward_hook(self._drop_rotations)

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
        """See `ImageNet.forward`."""
        with _seeing(visible):
            out = self.inner(pixel_values=images, **self._extra)
        hidden = out.last_hidden_state
        count = self.grid**2 if visible is None else visible.index.shape[1]
        prefix = hidden.shape[1] - count
        summary = None
        if self.has_summary:
            summary = out.pooler_output if self._pooled else hidden[:, 0]
            summary = self.projection(summary)
        return patches_of(hidden[:, prefix:], visible, summary)

    def _drop_hidden(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        visible = _visible.get()
        if visible is None:
            return out
        prefix = out.shape[1] - self.grid**2
        return torch.cat([out[:, :prefix], gather_tokens(out[:, prefix:], visible.index)], dim=1)

    def _drop_rotations(
        self, module: nn.Module, inputs: Any, out: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Of each row its own patches' rotations, alike for all heads."""
        visible = _visible.get()
        if visible is None:
            return out
        cosine, sine = (part[visible.index][:, None] for part in out)
        return cosine, sine


@contextmanager
def _seeing(visible: TokenSubset | None) -> Iterator[None]:
    token = _visible.set(visible)
    try:
        yield
    finally:
        _visible.reset(token)


def _registered() -> str:
    """The name under which the library finds our attention."""
    transformers = library()
    transformers.AttentionInterface.register(_ATTENTION, _attention)
    transformers.AttentionMaskInterface.register(_ATTENTION, _no_mask)
    return _ATTENTION


def _no_mask(*_: Any, **__: Any) -> None:
    """The library's own masks: none, for images of one batch have the same size."""


def _attention(
    module: nn.Module,
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h m d"],
    value: Float[Tensor, "b h m d"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "b n h d"], None]:
    """Attention of all tokens to all that are not padding; the prefix always is visible."""
    visible = _visible.get()
    keys: Bool[Tensor, "b 1 1 m"] | None = None
    if visible is not None:
        prefix = key.shape[2] - visible.mask.shape[1]
        keys = F.pad(visible.mask, (prefix, 0), value=True)[:, None, None, :]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=keys, scale=scaling)
    return out.transpose(1, 2).contiguous(), None
