"""The hub is replaced at its boundary: the functions of huggingface_hub that talk to it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tijepa
from tijepa.errors import CheckpointError, ConfigError, MissingExtraError
from tijepa.inference.embedder import Embedder
from tijepa.inference.hub.transfer import is_repo_id

FILES = {
    "README.md",
    "calibration.safetensors",
    "model.json",
    "model.safetensors",
    "provenance.json",
    "tokenizer.json",
}


class Hub:
    """Repositories in a folder, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []

    def create_repo(self, repo_id: str, **given: Any) -> str:
        self.asked.append({"repo_id": repo_id, **given})
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.asked.append({"message": commit_message})
        shutil.copytree(folder_path, self.folder / repo_id)

    def snapshot_download(self, repo_id: str, *, revision: Any, allow_patterns: list[str]) -> str:
        self.asked.append({"revision": revision, "patterns": allow_patterns})
        if not (self.folder / repo_id).exists():
            raise OSError("404 Client Error:\nnot found")
        return str(self.folder / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    import huggingface_hub

    hub = Hub(tmp_path / "hub")
    api = SimpleNamespace(create_repo=hub.create_repo, upload_folder=hub.upload_folder)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


def test_what_is_pushed_can_be_loaded_by_its_name(trained: Embedder, hub: Hub) -> None:
    address = trained.push_to_hub("someone/small-scenes", private=True, message="First")
    assert address == "https://hub.example/someone/small-scenes"
    assert hub.asked[0] == {"repo_id": "someone/small-scenes", "private": True, "exist_ok": True}
    assert hub.asked[1] == {"message": "First"}
    folder = hub.folder / "someone/small-scenes"
    assert {path.name for path in folder.iterdir()} == FILES
    assert "# small-scenes\n" in (folder / "README.md").read_text()
    loaded = tijepa.load("someone/small-scenes", revision="v1")
    assert torch.equal(loaded.encode_text("a red ball"), trained.encode_text("a red ball"))
    assert hub.asked[-1]["revision"] == "v1"


def test_only_safetensors_json_graphs_and_the_page_are_fetched(trained: Embedder, hub: Hub) -> None:
    trained.push_to_hub("a/b")
    tijepa.load("a/b")
    assert set(hub.asked[-1]["patterns"]) == {"*.json", "*.safetensors", "*.onnx", "README.md"}


def test_a_folder_here_goes_before_the_hub(trained: Embedder, hub: Hub, tmp_path: Path) -> None:
    trained.save(tmp_path / "own/model")
    tijepa.load("own/model")
    assert hub.asked == []


def test_a_name_that_the_hub_does_not_know_is_an_error_of_one_line(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="runs/demo is not a folder; give a run") as raised:
        tijepa.load("runs/demo")
    assert "404 Client Error: not found" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_refused_upload_is_an_error_of_one_line(
    trained: Embedder, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise RuntimeError("401 Client Error\nlog in")

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: SimpleNamespace(create_repo=refuse))
    with pytest.raises(CheckpointError, match="a/b cannot be written on the hub: 401 Client Error"):
        trained.push_to_hub("a/b")


@pytest.mark.parametrize("name", ["demo", "a/b/c", "/a", "a/", "-a/b", "a/b.", "a b/c", "a/b..c"])
def test_what_is_no_name_of_the_hub_is_refused_before_anything_is_sent(
    name: str, trained: Embedder, hub: Hub
) -> None:
    assert not is_repo_id(name)
    with pytest.raises(ConfigError, match="is no name of the hub"):
        trained.push_to_hub(name)
    assert hub.asked == []


def test_paths_and_revisions_of_folders_do_not_reach_the_hub(tiny_run: Path, hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        tijepa.load(Path("runs/demo"))
    with pytest.raises(ConfigError, match="revision 'v1' has no effect"):
        tijepa.load(str(tiny_run), revision="v1")
    assert hub.asked == []


def test_without_the_extra_the_error_says_what_to_install(
    trained: Embedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tijepa\[hf\]'"):
        trained.push_to_hub("a/b")
    with pytest.raises(MissingExtraError, match=r"pip install 'tijepa\[hf\]'"):
        tijepa.load("a/b")
