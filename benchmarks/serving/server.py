"""A server process on a small model and a small store, both made here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tijepa.config import load_config
from tijepa.data.readers import open_reader
from tijepa.data.scenes import Scenes
from tijepa.data.store.prepare import write_store
from tijepa.io.progress import SILENT
from tijepa.training import train

SIDE = 128  # pixels of the stored images


def make_store(folder: Path, items: int) -> str:
    """Scenes as files, prepared into a store."""
    source, rows = folder / "images", []
    source.mkdir()
    scenes = Scenes("test", items, image_size=SIDE)
    for index in range(items):
        name = f"{index}.jpg"
        Image.fromarray(scenes.image(index, SIDE)).save(source / name, quality=88)
        rows.append({"image": name, "captions": list(scenes.captions(index)[:2]), "split": "train"})
    (source / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = str(folder / "images.lance")
    write_store(open_reader(str(source)), store, source=str(source), max_bad=0.0, threads=1)
    return store


def make_run(folder: Path) -> Path:
    """The model of the preset `scenes`, hardly trained: how well it fits costs nothing here."""
    overrides = ["optim.steps=4", "optim.batch_size=16", "log.every=4", "log.eval_every=4",
                 "log.save_every=4", "log.tensorboard=false", "data.eval_items=64",
                 "data.test_items=64", "compute.threads=1"]  # fmt: skip
    return train(load_config("scenes", overrides=overrides), folder / "run", reporter=SILENT)


@contextmanager
def serving(run: Path, store: str) -> Iterator[str]:
    """The address of a server with default settings on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tijepa", "serve", str(run), store, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"serving +(http://\S+)", line)
            if found:
                yield found[1]
                return
        raise RuntimeError("the server did not start")
    finally:
        process.terminate()
        process.wait(60)


def resident(address: str) -> int:
    """Bytes of the server's process, by its own metrics."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return int(re.findall(r"^tijepa_resident_bytes (\d+)$", text, re.M)[0])
