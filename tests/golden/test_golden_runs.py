"""Short runs on a CPU give what was recorded: losses, gradients, figures, weights.

`expected/NAME.json` holds what run NAME of `runs.py` gave when it was recorded. On a machine that
does the same arithmetic (`expected/machine.json`, `comparison.fingerprint`) every float and every
weight must be equal, elsewhere losses and figures must be close (`comparison.py` has the bounds).

A change that should change results records them anew and says why in its message:

    TIJEPA_RECORD_GOLDEN=1 .venv/bin/pytest -m "" tests/golden
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.golden.comparison import differences, fingerprint, machine, recording
from tests.golden.material import write_backbones, write_pairs
from tests.golden.runs import RUNS, SLOW, arguments, interrupt, read_run, succeed

EXPECTED = Path(__file__).parent / "expected"
PAIRS = {"train": 32, "validation": 16, "test": 16}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two stores that `tijepa prepare` wrote, and two pretrained encoders."""
    folder = tmp_path_factory.mktemp("golden")
    for name, unpaired in (("paired", 0), ("unpaired", 8)):
        source = write_pairs(folder / name, PAIRS, size=32, unpaired=unpaired)
        store = str(folder / f"{name}.lance")
        succeed("prepare", str(source), "--out", store, "--threads", "0")
    stores = {name: folder / f"{name}.lance" for name in ("paired", "unpaired")}
    return {**stores, **write_backbones(folder)}


@pytest.fixture(scope="module")
def exact() -> bool:
    """Whether this machine does the arithmetic of the one that recorded, and so to the last bit."""
    if recording():
        _write(EXPECTED / "machine.json", machine())
    recorded = json.loads((EXPECTED / "machine.json").read_text(encoding="utf-8"))
    return bool(fingerprint() == recorded["fingerprint"])


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _expected(name: str) -> dict[str, Any]:
    return dict(json.loads((EXPECTED / f"{name}.json").read_text(encoding="utf-8")))


def _finished(run: Path) -> dict[str, Any]:
    """What is compared of a run, which is then removed: some are large."""
    found = read_run(run)
    shutil.rmtree(run)
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in RUNS]
)
def test_a_run_gives_what_was_recorded(
    name: str, places: dict[str, Path], exact: bool, tmp_path: Path
) -> None:
    succeed(*arguments(name, places, tmp_path / "run"))
    found = _finished(tmp_path / "run")
    if recording():
        _write(EXPECTED / f"{name}.json", found)
    assert differences(found, _expected(name), exact=exact) == []


@pytest.mark.parametrize("name", ["accumulation", "ema_targets", "covariance_on_frozen_features"])
def test_an_interrupted_and_resumed_run_gives_what_was_recorded_of_an_uninterrupted_one(
    name: str, places: dict[str, Path], exact: bool, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    interrupt(arguments(name, places, run), run, after=4)
    assert not (run / "results.json").exists()
    succeed("train", "--resume", "--out", str(run))
    assert differences(_finished(run), _expected(name), exact=exact) == []


def test_every_record_is_of_a_run() -> None:
    assert {path.stem for path in EXPECTED.glob("*.json")} == {"machine", *RUNS}


def test_the_fingerprint_of_a_machine_stays_the_same() -> None:
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("exact", [True, False])
def test_what_was_recorded_does_not_differ_from_itself(exact: bool) -> None:
    for name in RUNS:
        assert differences(_expected(name), _expected(name), exact=exact) == []


@pytest.mark.parametrize("key", ["loss", "grad_norm"])
def test_a_step_that_differs_is_noticed(key: str) -> None:
    """By one bit where the machine is alike, by 3 % elsewhere."""
    recorded = _expected("tijepa")
    found = copy.deepcopy(recorded)
    found[key][3] *= 1 + 1e-15
    assert found[key][3] != recorded[key][3]
    (line,) = differences(found, recorded, exact=True)
    assert line.startswith(f"{key} of step 4 is ")
    assert differences(found, recorded, exact=False) == []
    found[key][3] *= 1.03
    assert len(differences(found, recorded, exact=False)) == 1
    del found[key][3]
    assert differences(found, recorded, exact=False) == [f"{key} has 7 steps, recorded 8"]


def test_a_figure_that_differs_is_noticed() -> None:
    recorded = _expected("tijepa")
    found = copy.deepcopy(recorded)
    key = "energies.calibrated.image_to_text.recall_at_10"
    found["figures"][key] += 0.2
    for exact in (True, False):
        (line,) = differences(found, recorded, exact=exact)
        assert line.startswith(f"{key} is ")
    del found["figures"][key]
    assert differences(found, recorded, exact=False) == [f"{key} is gone"]


def test_a_renamed_parameter_is_told_apart_from_a_changed_one() -> None:
    recorded = _expected("tijepa")
    renamed = {**recorded, "weights": "0"}
    assert differences(renamed, recorded, exact=True) == [
        "weights have the recorded values under other names: a parameter was renamed"
    ]
    changed = {**renamed, "weights_by_value": "0"}
    assert differences(changed, recorded, exact=True) == ["weights have other values than recorded"]
