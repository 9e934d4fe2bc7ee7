"""What an older version wrote is read by this one, and gives what it gave then.

Each folder under `fixtures/` is named after the commit that wrote it; `old_formats.py` says what
it holds, what is asked, and how one is made. The answers of that commit are in `expected.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.old_formats import HERE, QUESTIONS, unpack
from tests.golden.runs import one_thread, succeed

FIXTURES = sorted((Path(__file__).parent / "fixtures").iterdir())
LARGEST = 1_500_000  # bytes of a fixture
# training goes through the optimizer, which divides small numbers by small numbers
BOUNDS = {"embeddings and energies": (1e-5, 1e-5), "search": (1e-4, 1e-4)}
OTHER_BOUNDS = (2e-3, 2e-3)  # relative, absolute


def deviations(found: Any, recorded: Any, bounds: tuple[float, float], path: str = "") -> list[str]:
    """One line for each leaf that is not what was recorded, numbers within the bounds."""
    if isinstance(found, dict) and isinstance(recorded, dict) and found.keys() == recorded.keys():
        inner = [(f"{path}.{key}", found[key], recorded[key]) for key in found]
    elif isinstance(found, list) and isinstance(recorded, list) and len(found) == len(recorded):
        inner = [
            (f"{path}[{k}]", *both) for k, both in enumerate(zip(found, recorded, strict=True))
        ]
    elif _is_number(found) and _is_number(recorded):
        relative, absolute = bounds
        same = found == pytest.approx(recorded, rel=relative, abs=absolute)
        return [] if same else [f"{path} is {found!r}, recorded {recorded!r}"]
    else:
        return [] if found == recorded else [f"{path} is {found!r}, recorded {recorded!r}"]
    return [line for name, one, other in inner for line in deviations(one, other, bounds, name)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.fixture(params=FIXTURES, ids=lambda path: str(path.name))
def fixture(request: pytest.FixtureRequest) -> Path:
    """The folder as it is committed. Read it only."""
    return Path(request.param)


@pytest.fixture
def place(fixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, which is the working folder."""
    copy = unpack(fixture, tmp_path / "copy")
    monkeypatch.chdir(copy)
    return copy


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_older_version_s_files_give_what_they_gave(
    question: str, fixture: Path, place: Path
) -> None:
    recorded = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))[question]
    with one_thread():
        found = json.loads(json.dumps(QUESTIONS[question]()))
    assert deviations(found, recorded, BOUNDS.get(question, OTHER_BOUNDS)) == []


def test_an_interrupted_run_of_an_older_version_ends_as_its_uninterrupted_twin(
    fixture: Path,
) -> None:
    """Both have the same settings, so the record of one is the record of the other."""
    recorded = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))
    runs = [recorded[f"resuming the {name} run"] for name in ("interrupted", "finished")]
    assert runs[0] == runs[1]
    assert runs[0]["steps"] == [1, 2, 3, 4, 5, 6]


def test_features_that_an_older_version_kept_are_used(place: Path) -> None:
    """Of the kept kinds none is made anew: nothing is added to them, and none is changed."""

    def kept() -> dict[str, bytes]:
        paths = [p for p in place.joinpath("pairs.features").rglob("*") if p.suffix != ".lock"]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}

    before = kept()
    assert before
    succeed("evaluate", "frozen")
    assert kept() == before


def test_a_fixture_is_small_and_tells_nothing_of_the_machine_that_wrote_it(fixture: Path) -> None:
    paths = [path for path in fixture.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in paths) < LARGEST
    environments = list(fixture.rglob("environment.json"))
    assert environments
    for path in environments:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert found["store"]["uri"] == f"{HERE}/pairs.lance"
        assert (found["platform"], found["command"]) == ("Linux", "tijepa train")
    for path in paths:
        content = path.read_bytes()
        assert b"/home/" not in content, path
        assert b"/tmp/" not in content, path


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"a": [1.0, 2.0]}, None),
        ({"a": [1.0, 2.001]}, None),
        ({"a": [1.0, 2.1]}, ".a[1] is 2.1, recorded 2.0"),
        ({"a": [1.0]}, ".a is [1.0], recorded [1.0, 2.0]"),
        ({"a": "1"}, ".a is '1', recorded [1.0, 2.0]"),
        ({}, " is {}, recorded {'a': [1.0, 2.0]}"),
    ],
)
def test_a_deviation_is_noticed(found: Any, line: str | None) -> None:
    assert deviations(found, {"a": [1.0, 2.0]}, (1e-3, 0.0)) == ([] if line is None else [line])
