"""Shapes in annotations are checked at run time, and the machine's cores are not all taken."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

assert "tijepa" not in sys.modules, "the import hook must come before tijepa"
install_import_hook("tijepa", "beartype.beartype")

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from tijepa.config import RunConfig, load_config  # noqa: E402
from tijepa.data.scenes import Scenes  # noqa: E402
from tijepa.io.progress import SILENT  # noqa: E402

torch.set_num_threads(1)
# a busy machine is no fault of the code: no deadlines; `make test-all` tries more examples
settings.register_profile("few", deadline=None, max_examples=30)
settings.register_profile("many", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("TIJEPA_EXAMPLES", "few"))

FROZEN = """
    data.max_tokens=16 model.image.pool=grid model.embed_dim=8 model.head.hidden=16
    model.pooled_predictor.hidden=16 optim.steps=2 optim.batch_size=8 log.eval_every=2
    log.save_every=2 compute.device=cpu compute.precision=float32 compute.threads=1
    log.tensorboard=false
"""
TINY = """
    data.image_size=32 data.max_tokens=16
    model.image.patch_size=8 model.image.width=16 model.image.depth=1 model.image.heads=2
    model.text.width=16 model.text.depth=1 model.text.heads=2
    model.embed_dim=8 model.head.hidden=16
    optim.steps=6 optim.batch_size=8
    log.every=1 log.eval_every=3 log.save_every=3
    compute.device=cpu compute.precision=float32 compute.threads=1
"""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sources are prepared into a cache of the tests' own, never into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder whose `data/flickr8k` and `data/mvsa_single` hold real photos with captions."""
    value = os.environ.get("TIJEPA_REAL_DATA")
    if not value:
        pytest.skip("TIJEPA_REAL_DATA is not set: tests on real photos need that folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"TIJEPA_REAL_DATA={value} is not a folder: mend or unset it")
    return folder


@pytest.fixture(scope="session")
def few_photos(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of Flickr8k's photos with their captions: 100 train, 40 validation, 40 test."""
    source, folder = real_data / "data" / "flickr8k", tmp_path_factory.mktemp("few")
    (folder / "images").symlink_to(source / "images")
    left = {"train": 100, "validation": 40, "val": 40, "test": 40}
    with (
        (source / "captions.jsonl").open(encoding="utf-8") as lines,
        (folder / "captions.jsonl").open("w", encoding="utf-8") as few,
    ):
        for line in lines:
            split = json.loads(line)["split"]
            left[split] -= 1
            if left[split] >= 0:
                few.write(line)
    return folder


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small images with two captions each: 32 train, 12 validation, 12 test."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for split, count in (("train", 32), ("validation", 12), ("test", 12)):
        scenes = Scenes(split, count, image_size=32, distinct=True)
        for index in range(count):
            name = f"{split}-{index}.png"
            Image.fromarray(scenes.image(index, 32)).save(folder / name)
            captions = list(scenes.captions(index)[:2])
            rows.append({"image": name, "captions": captions, "split": split})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny pretrained encoders of random weights: a plain ViT of timm, a BERT."""
    from tests.model.pretrained.tiny import write_bert, write_timm_vit

    folder = tmp_path_factory.mktemp("backbones")
    return {
        "image": write_timm_vit(folder / "vit", depth=2),
        "text": write_bert(folder / "bert", layers=2),
    }


@pytest.fixture(scope="session")
def frozen_settings(backbones: dict[str, Path]) -> list[str]:
    """Overrides for a run of two steps on both backbones, frozen, which keeps their features."""
    towers = [f"model.{modality}.backbone={folder}" for modality, folder in backbones.items()]
    return [*towers, *FROZEN.split()]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the images and captions that pretrained encoders see from here on."""
    from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone

    seen = {"image": 0, "text": 0}
    for name, kind in (("image", ImageBackbone), ("text", TextBackbone)):
        forward = kind.forward

        def counted(self: Any, x: Any, *a: Any, _f: Any = forward, _n: str = name) -> Any:
            seen[_n] += len(x)
            return _f(self, x, *a)

        monkeypatch.setattr(kind, "forward", counted)
    return seen


@pytest.fixture(scope="session")
def tiny_settings(pairs_folder: Path) -> list[str]:
    """Overrides for a run of six steps that takes a second."""
    return [*TINY.split(), f"data.source={json.dumps(str(pairs_folder))}"]


@pytest.fixture(scope="session")
def tiny_config(tiny_settings: list[str]) -> Callable[..., RunConfig]:
    """The configuration of such a run, with further overrides."""
    return lambda *overrides: load_config(overrides=[*tiny_settings, *overrides])


@pytest.fixture(scope="session")
def tiny_run(
    tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run. Shared: read it, or copy it."""
    from tijepa.training import train

    return train(tiny_config(), tmp_path_factory.mktemp("runs") / "tiny", reporter=SILENT)
