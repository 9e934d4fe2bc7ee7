from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

import tijepa.config
from tijepa.cli import main


def test_presets_are_listed_with_their_first_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("#\n# What it is for.\n# More.\nseed: 1\n")
    (tmp_path / "long.yaml").write_text("seed: 1\n")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    monkeypatch.setattr(tijepa.config, "preset_names", lambda: ["a", "long"])
    assert main(["presets"]) == 0
    assert capsys.readouterr().out == "a     What it is for.\nlong\n"
