"""A service on the tiny run and a store of the same pairs, and a client to its application."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import tijepa
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.inference.embedder import Embedder
from tijepa.search import Index
from tijepa.serve.app import create_app
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.middleware import Limits
from tijepa.serve.service import Service

HERE = "http://localhost:8000"


@pytest.fixture(scope="session")
def served_model(tiny_run: Path) -> Embedder:
    return tijepa.load(tiny_run)


@pytest.fixture(scope="session")
def served_store(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of `pairs_folder`: 56 items of two captions each, 32 of them for training.

    Row r has r % 5 likes, and costs r / 4; `brand name` is Acme or Bolt in turn.
    """
    folder = tmp_path_factory.mktemp("stores")
    path, source = str(folder / "pairs.lance"), str(folder / "pairs")
    shutil.copytree(pairs_folder, source)
    lines = (folder / "pairs" / "captions.jsonl").read_text().splitlines()
    rows = [
        {**json.loads(line), "likes": k % 5, "price": k / 4, "brand name": ["Acme", "Bolt"][k % 2]}
        for k, line in enumerate(lines)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "pairs" / "captions.jsonl").write_text(text)
    write_store(open_reader(source), path, source=source, max_bad=0.0, threads=1)
    return path


@pytest.fixture(scope="session")
def served_index(served_model: Embedder, served_store: str) -> Index:
    return Index.build(served_model, served_store, threads=1)


@pytest.fixture(scope="session")
def serve(
    tiny_run: Path, served_model: Embedder, served_index: Index
) -> Iterator[Callable[..., TestClient]]:
    """A function that opens a client, one for equal arguments; other names are limits.

    `store=False` serves none.
    """
    opened: dict[str, TestClient] = {}

    def client(*, key: str | None = None, store: bool = True, **limits: int) -> TestClient:
        name = repr((key, store, sorted(limits.items())))
        if name in opened:
            return opened[name]
        service = Service(
            served_model,
            tiny_run,
            IndexedStore(served_index) if store else None,
            limits=Limits(**limits),
            wait=0.0,
        )
        app = create_app(service, key=key, hosts={"localhost"})
        one = TestClient(app, base_url=HERE, raise_server_exceptions=False)
        one.__enter__()
        opened[name] = one
        return one

    yield client
    for one in opened.values():
        one.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


@pytest.fixture(scope="session")
def image() -> bytes:
    """A PNG of 40 x 30 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
