from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tijepa
from tijepa.inference.embedder import Embedder


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def trained(tiny_run: Path) -> Embedder:
    return tijepa.load(tiny_run)
