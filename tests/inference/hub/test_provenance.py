from __future__ import annotations

import json
from pathlib import Path

import pytest

from tijepa.errors import CheckpointError
from tijepa.inference.hub.provenance import read_provenance


def test_a_final_model_has_its_runs_configuration_results_and_environment(run: Path) -> None:
    found = read_provenance(run / "model")
    assert found.config["objective"]["name"] == "tijepa"
    assert found.results == json.loads((run / "results.json").read_text())
    assert found.environment["items"] == {"train": 32, "validation": 12, "test": 12}


def test_nothing_that_tells_of_the_users_machine_is_kept(run: Path) -> None:
    """The run's data lie in a folder of absolute path: its last part is all that is told."""
    source = read_provenance(run / "model").config["data"]["source"]
    assert "/" not in source
    assert source.startswith("pairs")
    told = json.dumps(read_provenance(run / "model").to_json())
    assert str(run) not in told
    for key in ("command", "platform", "store", "data_"):
        assert key not in read_provenance(run / "model").environment


def test_results_are_those_of_this_checkpoint_or_none(run: Path) -> None:
    """results.json says checkpoint step-00000006."""
    assert read_provenance(run / "checkpoints/step-00000006").results
    assert not read_provenance(run / "checkpoints/step-00000003").results


def test_a_model_without_a_run_has_no_provenance(tmp_path: Path) -> None:
    for place in (None, tmp_path):
        assert read_provenance(place).to_json() == {
            "format": 1,
            "config": {},
            "results": {},
            "environment": {},
        }


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "config": 3}'])
def test_a_damaged_provenance_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"provenance\.json is damaged"):
        read_provenance(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"), [("config.yaml", "a: ["), ("config.yaml", "- 1"), ("results.json", "[1]")]
)
def test_a_damaged_file_of_the_run_is_an_error(name: str, text: str, run: Path) -> None:
    (run / name).write_text(text)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        read_provenance(run / "model")
