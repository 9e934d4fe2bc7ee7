"""A package of a stranger's, installed with an entry point, and what it registers put to use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SMALL = """
    data.image_size=16 data.max_tokens=8 data.eval_items=8 data.test_items=8
    model.embed_dim=6 model.head.hidden=8 optim.steps=4 optim.batch_size=8
    log.every=2 log.eval_every=4 log.save_every=4 log.tensorboard=false
    compute.device=cpu compute.precision=float32 compute.threads=1
""".split()  # noqa: SIM905
OWN_ENCODERS = ["model.image.encoder={name: blocks, width: 6}", "model.text.encoder=bag"]
COMMANDS = (
    "import json, sys; from tijepa.cli import main\n"
    "for command in json.loads(sys.argv[1]):\n"
    "    code = main(command)\n"
    "    if code: sys.exit(code)\n"
)

# the trained run saved, exported and served, by the names of its parts alone
USED = """
from pathlib import Path
import tijepa, torch
from fastapi.testclient import TestClient
from tijepa.export.onnx import export_run
from tijepa.search import Index
from tijepa.serve.app import create_app
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.middleware import Limits
from tijepa.serve.service import Service

model = tijepa.load("run")
expected = model.encode_text(["red 11", "green"])
model.save("saved")
for folder in ("saved", "run/checkpoints/step-00000004"):
    assert tijepa.load(folder).encode_text(["red 11"], form="cosine").shape == (1, 12)
export_run(Path("run"), Path("graphs"))
graphs = tijepa.load("graphs", backend="onnx")
assert torch.allclose(graphs.encode_text(["red 11", "green"]), expected, rtol=1e-3, atol=1e-3)
store = IndexedStore(Index.open(model, "pairs.lance"))
service = Service(model, Path("run"), store, limits=Limits(), wait=0.0)
app = create_app(service, key=None, hosts={"localhost"})
with TestClient(app, base_url="http://localhost:8000") as client:
    assert len(client.post("/search", data={"text": "red 11", "k": 3}).json()["hits"]) == 3
    answer = client.post("/embed", data={"text": ["red 11", "green"]}).json()
assert torch.allclose(torch.tensor(answer["texts"]), expected, rtol=1e-4, atol=1e-4)
"""

# its encoders handed built to a Trainer, in a script that imports it
HANDED = """
import foreign, tijepa, torch
from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import Tokenizer
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.rivals import CLIPObjective

tokenizer = Tokenizer.train(["red green blue"] * 3, 32)
towers = {
    "image": {"encoder": "blocks", "image_size": 8, "width": 4},
    "text": {"encoder": "bag", "vocab_size": tokenizer.vocab_size, "max_tokens": 4},
    "head": {"depth": 1, "hidden": 8, "norm": "batch"},
    "embed_dim": 4,
}
card = ModelCard({"encoders": towers, "predictors": None}, "clip", image_size=8, max_tokens=4)
built = {"image": foreign.Blocks(image_size=8, width=4)}
built["text"] = foreign.Bag(vocab_size=tokenizer.vocab_size, max_tokens=4)
model = TextImageModel(encoders=towers | built, predictors=None, ema=False)
every = torch.ones(4, dtype=torch.bool)
texts = tokenizer.encode(["red", "green", "blue", "red blue"], 4)
batch = Batch(torch.rand(4, 3, 8, 8), every, texts.ids, texts.mask, every, torch.arange(4), 0)
schedule = tijepa.Schedule(steps=2, lr=0.01)
options = {"card": card, "tokenizer": tokenizer, "save_every": 2, "report": False}
tijepa.Trainer(model, CLIPObjective(), [batch], schedule=schedule, out="handed", **options).fit()
loaded = tijepa.load("handed")
assert torch.equal(loaded.model.context.image.patch.weight, model.context.image.patch.weight)
assert loaded.energy(torch.rand(3, 8, 8), ["red", "green"]).shape == (1, 2)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder where the package `foreign` counts as installed, once it is on the path."""
    site = tmp_path / "site"
    info = site / "foreign-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("foreign.py"), site / "foreign.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tijepa.plugins]\nforeign = foreign\n")
    return site


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    colours = [(number * 11 % 256, number * 37 % 256, 90) for number in range(32)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (20, 16), colour).save(folder / f"{number}.png")
    (folder / "words.txt").write_text("".join(f"red {r} green {g}\n" for r, g, _ in colours))
    return folder


def run(program: str, *arguments: str, site: Path | None, folder: Path) -> str:
    path = os.pathsep.join([*([str(site)] if site else []), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_finds_it_by_its_entry_point(
    site: Path, source: Path, tmp_path: Path
) -> None:
    """Trains, evaluates, indexes and searches with one of each kind; then it is not there."""
    parts = [
        "objective.energy={name: power, exponent: 3}",
        "objective.regularize_image={name: wide, weight: 0.1}",
        "objective.tasks.image_infill=0.5",
        "model.token_predictor={width: 8, depth: 1, heads: 2}",
        "model.pooled_predictor.kind=linear",
        "evaluations=[median_gap]",
        "log.loggers=[losses]",
    ]
    commands = [
        ["prepare", str(source), "--out", "pairs.lance"],
        ["train", *SMALL, *OWN_ENCODERS, *parts, "--data", "pairs.lance", "--out", "run"],
        ["evaluate", "run", "--evaluation", "duplicates_aware_recall", "--json"],
        ["index", "run", "pairs.lance"],
        ["search", "run", "pairs.lance", "red 11", "--backend", "plain", "--k", "3", "--json"],
    ]
    told = run(COMMANDS + USED, json.dumps(commands), site=site, folder=tmp_path)
    answers = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    evaluated, searched = answers
    assert evaluated["duplicates_aware_recall"]["duplicate_images"] == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["median_gap"] == evaluated["median_gap"]
    assert len(searched["hits"]) == 3
    losses = [json.loads(line) for line in (tmp_path / "run/losses.txt").read_text().splitlines()]
    assert [step for step, _ in losses] == [2, 4]
    assert "plugins: [foreign]" in (tmp_path / "run/config.yaml").read_text()

    gone = (
        "import json, sys; from tijepa.cli import main; sys.stderr = sys.stdout\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    assert main(command) == 2"
    )
    commands = [["evaluate", "run"], ["search", "run", "pairs.lance", "red"]]
    told = run(gone, json.dumps(commands), site=None, folder=tmp_path)
    assert told.count("plug-in package 'foreign' is not installed: install it") == 2


def test_python_trains_with_its_objective_and_reads_the_run_again(
    site: Path, source: Path, tmp_path: Path
) -> None:
    """Named by `plugins`, without the entry point; a reader takes the folder as it is."""
    shutil.rmtree(site / "foreign-1.0.dist-info")
    program = (
        "import sys, json, tijepa\n"
        "from pathlib import Path\n"
        "from tijepa.config import load_config\n"
        "from tijepa.training import train\n"
        "settings = json.loads(sys.argv[1])\n"
        "config = load_config(overrides=['plugins=[foreign]', *settings])\n"
        "assert config.objective.strength == 2.0\n"
        "train(config, Path('run'))\n"
        "train(load_config(file='run/config.yaml'), Path('run'), resume=True)\n"
        "model = tijepa.load('run')\n"
        "assert model.encode_text(['red 11']).shape[0] == 1\n"
    )
    settings = [*SMALL, *OWN_ENCODERS, "objective={name: pull, strength: 2}"]
    settings += [f"data.source={source}", "optim.ema_momentum=[0.9, 1]"]
    run(program + HANDED, json.dumps(settings), site=site, folder=tmp_path)
    fresh = "import tijepa; print(tijepa.load('run').encode_text(['red 11']).shape[0])"
    assert run(fresh, site=site, folder=tmp_path) == "1\n"
