from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tijepa.config import RunConfig
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import append_store, write_store
from tijepa.errors import CheckpointError, DataError
from tijepa.io.progress import SILENT
from tijepa.model.saving import read_json
from tijepa.runs.evaluation import evaluate_run
from tijepa.runs.record import open_run_data
from tijepa.training import train

Configure = Callable[..., RunConfig]
QUIET = SILENT


def grow(store: Path, pairs: Path) -> None:
    """Append twelve training pairs and as many of test, which are shades of earlier ones."""
    rows = [
        {"id": f"{split}-again-{i}", "image": f"{split}-{i}.png", "split": split, "captions": ["x"]}
        for split in ("train", "test")
        for i in range(12)
    ]
    (pairs / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    append_store(open_reader(str(pairs)), str(store))


@pytest.fixture
def pairs(pairs_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pairs_folder, tmp_path / "pairs"))


@pytest.fixture
def store(pairs: Path, tmp_path: Path) -> Path:
    write_store(open_reader(str(pairs)), str(tmp_path / "pairs.lance"))
    return tmp_path / "pairs.lance"


def test_a_run_stays_at_the_version_that_it_began_with(
    tiny_config: Configure,
    store: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted after 4 of 6 steps, then rows are appended: resumed, it ends as if they were not.

    The source is relative to where the run began; the record is not.
    """
    monkeypatch.chdir(tmp_path)
    config = tiny_config("data.source=pairs.lance")
    train(config, tmp_path / "whole", reporter=QUIET)
    recorded = read_json(tmp_path / "whole/environment.json")["store"]
    assert recorded == {"uri": str(store), "version": 1}
    results = evaluate_run(tmp_path / "whole", device="cpu").to_json()

    with monkeypatch.context() as patch:
        from tijepa.training import loop

        step = loop.training_step
        calls = iter(range(5))

        def interrupting(*arguments: object, **keywords: object) -> object:
            if next(calls) == 4:
                raise KeyboardInterrupt
            return step(*arguments, **keywords)  # type: ignore[arg-type]

        patch.setattr(loop, "training_step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parted", reporter=QUIET)
    grow(store, pairs)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train(config, tmp_path / "parted", resume=True, reporter=QUIET)
    for name in ("model/model.safetensors", "results.json"):
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert evaluate_run(tmp_path / "whole", device="cpu").to_json() == results
    assert len(open_run_data(config, None, QUIET, other=str(store)).split("train")) == 44
    with pytest.raises(DataError, match=r"there is no store at pairs\.lance"):
        open_run_data(config, None, QUIET)


def test_a_version_that_is_gone_is_one_line(
    tiny_config: Configure, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    record = {"store": {"uri": str(store), "version": 3}}
    (tmp_path / "run/environment.json").write_text(json.dumps(record))
    config = tiny_config(f"data.source={store}")
    with pytest.raises(DataError, match="no longer has version 3, which was recorded") as error:
        open_run_data(config, tmp_path / "run", QUIET)
    assert "\n" not in str(error.value)


def test_a_run_whose_record_lacks_the_version_is_refused(
    tiny_config: Configure, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "environment.json").write_text("{}")
    config = tiny_config(f"data.source={store}")
    with pytest.raises(CheckpointError, match="does not say which version of"):
        open_run_data(config, tmp_path, QUIET)
