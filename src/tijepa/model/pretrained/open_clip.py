"""CLIP models in open_clip's layout, read as what they are: transformers' CLIP by other names.

A hub repository of open_clip holds `open_clip_config.json` and `open_clip_model.safetensors`. Its
plain vision and text transformers (Radford et al. 2021) are those of transformers' `clip`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.pretrained.weights import BackboneFolder

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

# the settings that transformers' CLIP has too; another one, unless it is off, makes another network
_VISION = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"}
_TEXT = {"layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size"}
_WITHOUT_EFFECT = {
    *("output_tokens", "patch_dropout", "pad_id", "eos_id", "attn_pooler_queries"),
    *("attn_pooler_heads", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"),
}
_USUAL = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
}

_NAMES = (
    (r"^text\.", ""),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection(\.weight)?$", "text_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def is_open_clip(folder: BackboneFolder) -> bool:
    """Whether a folder has open_clip's layout and not that of transformers too."""
    return bool(folder.json(CONFIG)) and "model_type" not in folder.json("config.json")


def clip_config(folder: BackboneFolder) -> dict[str, Any]:
    """The `config.json` of transformers that means the same network.

    Raises `ConfigError` for what is no plain CLIP: convolutions, timm's or transformers' towers,
    CoCa, other poolings.
    """
    found = folder.json(CONFIG).get("model_cfg", {})
    vision, text = dict(found.get("vision_cfg", {})), dict(found.get("text_cfg", {}))
    _check(folder, vision, _VISION, "vision_cfg")
    _check(folder, text, _TEXT, "text_cfg")
    both = {"embed_dim", "quick_gelu", "custom_text", "vision_cfg", "text_cfg"}
    others = sorted(key for key in found.keys() - both if found[key])
    whole = all(isinstance(vision.get(key), int) for key in ("layers", "width", "patch_size"))
    if others or not whole or not isinstance(vision.get("image_size", 224), int):
        raise _no_clip(folder, others[0] if others else "vision_cfg")
    act = {"hidden_act": "quick_gelu" if found.get("quick_gelu") else "gelu"}
    size = int(found["embed_dim"])
    return {
        "model_type": "clip",
        "projection_dim": size,
        "vision_config": {
            **_tower(vision, vision["width"] // vision.get("head_width", 64), size),
            **act,
            "patch_size": vision["patch_size"],
            "image_size": vision.get("image_size", 224),
        },
        "text_config": {
            **_tower({"width": 512, "layers": 12, **text}, text.get("heads", 8), size),
            **act,
            "max_position_embeddings": text.get("context_length", 77),
            "vocab_size": text.get("vocab_size", 49408),
            "bos_token_id": None,
            "pad_token_id": text.get("pad_id", 0),
            "eos_token_id": 2,  # to transformers' CLIP: the token of the largest id, as here
        },
    }


def preprocessing(folder: BackboneFolder) -> dict[str, Any]:
    """Side, mean and std of its images, by the names of transformers."""
    expected = folder.json(CONFIG).get("preprocess_cfg", {})
    names = {"image_mean": "mean", "image_std": "std", "size": "size"}
    return {name: expected[own] for name, own in names.items() if own in expected}


def by_transformers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a plain CLIP under the names that transformers gives them.

    The joint map to queries, keys and values (3 d, d) comes apart, projections (d, e) are turned to
    (e, d), and what is no weight of an encoder is left out.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.rpartition(".")[2] in ("logit_scale", "logit_bias", "attn_mask"):
            continue
        own = name
        for pattern, by in _NAMES:
            own = re.sub(pattern, by, own)
        joint = re.fullmatch(r"(.*)\.in_proj_(weight|bias)", own)
        if joint is not None:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{joint[1]}.{part}_proj.{joint[2]}"] = third
        elif own.endswith("projection.weight") and name.endswith(("proj", "text_projection")):
            renamed[own] = value.T.contiguous()
        else:
            renamed[own] = value
    return renamed


def _tower(settings: Mapping[str, Any], heads: int, projection: int) -> dict[str, Any]:
    width = int(settings["width"])
    return {
        "hidden_size": width,
        "intermediate_size": int(width * settings.get("mlp_ratio", 4.0)),
        "num_hidden_layers": int(settings["layers"]),
        "num_attention_heads": int(heads),
        "projection_dim": projection,
    }


def _check(folder: BackboneFolder, found: dict[str, Any], known: set[str], section: str) -> None:
    for key in sorted(found.keys() - known - _WITHOUT_EFFECT):
        if found[key] and found[key] not in _USUAL.get(key, ()):
            raise _no_clip(folder, f"{section}.{key}={found[key]}")


def _no_clip(folder: BackboneFolder, what: str) -> ConfigError:
    return ConfigError(
        f"backbone '{folder.name}' is a model of open_clip other than plain CLIP ({what}): use one"
        " of plain transformers, or a CLIP or SigLIP of transformers"
    )
