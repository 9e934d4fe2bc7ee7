from __future__ import annotations

import subprocess
import sys

import pytest

import tijepa


def test_all_is_the_public_interface() -> None:
    assert tijepa.__all__ == [
        "CheckpointError",
        "ConfigError",
        "DataError",
        "Embedder",
        "MissingExtraError",
        "NonFiniteError",
        "TijepaError",
        "__version__",
        "load",
    ]
    assert dir(tijepa) == tijepa.__all__


@pytest.mark.parametrize("name", tijepa.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(tijepa, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tijepa' has no attribute 'loda'"):
        tijepa.loda  # noqa: B018


@pytest.mark.parametrize("module", ["tijepa", "tijepa.config", "tijepa.cli"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
