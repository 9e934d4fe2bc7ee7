"""A small store, and the index of the tiny run on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tijepa
from tijepa import Embedder
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.search import Index


@pytest.fixture(scope="session")
def prepared(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the 56 pairs, `likes` being 0 to 4 in turn. Shared: use `store` to change it."""
    folder = tmp_path_factory.mktemp("search")
    source = folder / "pairs"
    shutil.copytree(pairs_folder, source)
    lines = (source / "captions.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "likes": number % 5} for number, line in enumerate(lines)]
    (source / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_store(open_reader(str(source)), str(folder / "pairs.lance"))
    return folder / "pairs.lance"


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may change, without an index beside it."""
    return Path(shutil.copytree(prepared, tmp_path / "pairs.lance"))


@pytest.fixture(scope="session")
def embedder(tiny_run: Path) -> Embedder:
    return tijepa.load(tiny_run)


@pytest.fixture(scope="session")
def index(embedder: Embedder, prepared: Path) -> Index:
    return Index.build(embedder, str(prepared), threads=1)


@pytest.fixture
def append(tmp_path: Path) -> Callable[[Path, int], None]:
    """Adds pairs to a store as a new version."""

    def run(store: Path, count: int) -> None:
        from PIL import Image

        from tijepa.data.store.prepare import append_store

        folder = tmp_path / f"more-{count}"
        folder.mkdir()
        rows = []
        for number in range(count):
            Image.new("RGB", (32, 32), (40 * number, 90, 200)).save(folder / f"{number}.png")
            rows.append(
                {"image": f"{number}.png", "captions": [f"plain {number}"], "split": "train"}
            )
        (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        append_store(open_reader(str(folder)), str(store))

    return run
