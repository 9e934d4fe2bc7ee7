from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tijepa


def test_all_is_the_public_interface() -> None:
    assert tijepa.__all__ == [
        "Callback",
        "CheckpointError",
        "CollapseError",
        "ConfigError",
        "DataError",
        "Embedder",
        "Evaluated",
        "HeldOut",
        "ImageError",
        "MissingExtraError",
        "NonFiniteError",
        "Objective",
        "Run",
        "Schedule",
        "Section",
        "TijepaError",
        "Trainer",
        "__version__",
        "compare",
        "doctor",
        "evaluate",
        "filter",
        "index",
        "load",
        "prepare",
        "register",
        "search",
        "train",
    ]
    assert dir(tijepa) == tijepa.__all__


@pytest.mark.parametrize("name", tijepa.__all__)
def test_every_public_name_can_be_imported_and_is_documented_and_typed(name: str) -> None:
    found = getattr(tijepa, name)
    if name == "__version__":
        assert isinstance(found, str)
        return
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        assert not [p for p in signature.parameters.values() if p.annotation is p.empty]


@pytest.mark.parametrize("name", ["evaluate", "search"])
def test_a_verb_can_be_called_before_and_after_its_room_was_imported(name: str) -> None:
    """`tijepa.search` is a room and a function: whichever comes first, it can be called."""
    script = (
        "import inspect, tijepa\n"
        f"first = tijepa.{name}\n"
        f"import tijepa.{name} as room\n"
        f"assert callable(first) and callable(room) and callable(tijepa.{name})\n"
        "assert inspect.ismodule(room)\n"
        "try: room('nowhere', 'nowhere.lance') if room.__name__.endswith('search') else room('x')\n"
        "except tijepa.TijepaError as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=99
    )
    assert (done.stdout.strip() in ("ConfigError", "CheckpointError"), done.stderr) == (True, "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tijepa' has no attribute 'loda'"):
        tijepa.loda  # noqa: B018


@pytest.mark.parametrize("module", ["tijepa", "tijepa.config", "tijepa.cli"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_every_file_of_the_package_that_is_no_module_is_shipped() -> None:
    root = Path(__file__).parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = patterns["tool"]["setuptools"]["package-data"]["tijepa"]
    package = root / "src" / "tijepa"
    found = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")
    }
    assert found == {path for pattern in shipped for path in package.glob(pattern)}
