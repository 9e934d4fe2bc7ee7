from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tijepa.export.onnx import export_run


@pytest.fixture(scope="session")
def said(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `export_run` says of an exported run, and its `folder`."""
    folder = tmp_path_factory.mktemp("exports") / "tiny"
    return {**export_run(tiny_run, folder, int8=True), "folder": folder}


@pytest.fixture(scope="session")
def exported(said: dict[str, Any]) -> Path:
    """The folder of an exported run, with int8."""
    folder: Path = said["folder"]
    return folder
