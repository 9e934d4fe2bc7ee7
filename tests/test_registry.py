"""Names and the parts that they stand for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tijepa import registry
from tijepa.config import load_config
from tijepa.errors import ConfigError
from tijepa.registry import Positive, Section, part, register, unknown_name


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            ["table", "rows"],
            "reader 'tabel' is unknown; did you mean 'table'? (known: rows, table)",
        ),
        (["rows"], "reader 'tabel' is unknown (known: rows)"),
        ([], "reader 'tabel' is unknown (known: none)"),
    ],
)
def test_the_nearest_of_the_known_names_is_offered(known: list[str], line: str) -> None:
    assert unknown_name("reader", "tabel", known) == line


def test_what_comes_with_the_package_is_known_without_importing_it() -> None:
    """In a fresh interpreter: names and sections of every kind, and no torch."""
    program = (
        "import sys; from tijepa import registry\n"
        "found = {kind: registry.entries(kind) for kind in registry.KINDS}\n"
        "assert 'torch' not in sys.modules and 'tijepa.objectives.rivals' not in sys.modules\n"
        "assert {'clip', 'siglip', 'vicreg', 'tijepa'} <= found['objective'].keys()\n"
        "assert list(found['regularizer']['sigreg'].config.model_fields) == "
        "['slices', 'by_batch', 'variance']\n"
        "assert found['energy']['cosine'].config is None\n"
        "from tijepa.objectives.energies import cosine\n"
        "assert registry.part('energy', 'cosine') is cosine\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test registers are gone after it."""
    tables = {kind: dict(table) for kind, table in registry._registered.items()}
    monkeypatch.setattr(registry, "_registered", tables)
    monkeypatch.setattr(registry, "_named", [])


class ScaledConfig(Section):
    factor: Positive = 2.0


@pytest.mark.usefixtures("own_names")
def test_a_part_brings_its_settings_into_the_configuration() -> None:
    @register("energy", "scaled", config=ScaledConfig)
    def scaled(*, factor: float) -> object:
        return factor

    assert part("energy", "scaled") is scaled
    for override in ("objective.energy=scaled", "objective.energy={name: scaled, factor: 2}"):
        config = load_config(overrides=[override])
        assert config.settings()["objective.energy.factor"] == 2.0
        assert "energy: {name: scaled" in config.to_yaml() or "name: scaled" in config.to_yaml()
    later = load_config(overrides=["objective.energy=scaled", "objective.energy.factor=3"])
    assert later.settings()["objective.energy.factor"] == 3.0
    with pytest.raises(
        ConfigError, match=r"objective\.energy\.factor is -1: must be greater than 0"
    ):
        load_config(overrides=["objective.energy={name: scaled, factor: -1}"])
    with pytest.raises(
        ConfigError, match=r"factor has no effect because objective\.energy\.name is"
    ):
        load_config(overrides=["objective.energy={name: cosine, factor: 3}"])


@pytest.mark.usefixtures("own_names")
def test_a_name_is_taken_once_and_registered_anew_by_its_own_module_alone() -> None:
    def first() -> None: ...
    def other() -> None: ...

    register("regularizer", "mine")(first)
    register("regularizer", "mine")(other)
    assert part("regularizer", "mine") is other
    first.__module__ = "somebody.else"
    with pytest.raises(ConfigError, match=r"regularizer 'mine' is registered by .*test_registry"):
        register("regularizer", "mine")(first)
    with pytest.raises(ConfigError, match=r"'sigreg' is registered by tijepa\.objectives"):
        register("regularizer", "sigreg")(other)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind of plug-in 'enrgy' is unknown; did you mean"):
        register("enrgy", "mine")


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["plugins=[nobodys_package]"])
    assert str(caught.value) == (
        "plug-in package 'nobodys_package' is not installed: install it, or put its folder on"
        " PYTHONPATH"
    )
