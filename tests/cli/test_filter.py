"""Images without caption and texts without image: `tijepa pair`, and training on its store."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tijepa
from tijepa.cli import main
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store


@pytest.fixture(scope="module")
def mixed(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the 56 pairs of which 20 in training are taken apart: 20 images, 20 texts, all
    texts behind all images, and one text of the test split alone. Texts have a mood."""
    folder = tmp_path_factory.mktemp("cli-pair")
    source = folder / "pairs"
    shutil.copytree(pairs_folder, source)
    rows = [json.loads(line) for line in (source / "captions.jsonl").read_text().splitlines()]
    texts: list[dict[str, Any]] = []
    for number, row in enumerate(rows[:20]):
        texts.append({"captions": row.pop("captions"), "split": "train", "mood": number})
    texts.append({"captions": ["nothing to be seen", "at all"], "split": "test", "mood": 99})
    lines = "".join(json.dumps(row) + "\n" for row in (*rows, *texts))
    (source / "captions.jsonl").write_text(lines)
    write_store(open_reader(str(source)), str(folder / "mixed.lance"))
    return folder / "mixed.lance"


def held(store: Path) -> list[dict[str, Any]]:
    dataset = Store(str(store)).dataset
    fields = [name for name in dataset.schema.names if name.startswith("extra_")]
    found: list[dict[str, Any]] = dataset.to_table(
        ["id", "captions", "split", "width", *fields]
    ).to_pylist()
    return found


def test_everybody_gets_a_partner_in_the_new_store(
    tiny_run: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, new = tmp_path / "matches", tmp_path / "more.lance"
    arguments = ["--run", str(tiny_run), "--out", str(out), "--store", str(new)]
    assert main(["pair", str(mixed), *arguments]) == 0
    printed = capsys.readouterr().out
    facts = json.loads((out / "pair.json").read_text())
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    mutual = sum(pair["mutual"] for pair in pairs)
    assert (facts["images"], facts["texts"], facts["mutual"]) == (20, 20, mutual)
    assert facts["pairs"] == facts["kept"] == len(pairs) == 40 - mutual
    assert (
        f"20 images and 20 texts by energy (calibrated, nats): {len(pairs)} pseudo-pairs" in printed
    )
    assert f"tijepa train --data {new}" in printed
    assert [p["energy"] for p in pairs] == sorted(p["energy"] for p in pairs)
    before, after = held(mixed), held(new)
    own, then = ({row["id"]: row for row in rows} for rows in (before, after))
    by_image: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        by_image.setdefault(pair["id"], []).append(own[pair["partner"]])
    assert len(by_image) == 20
    for image, partners in by_image.items():
        row = then.pop(image)
        assert row["captions"] == [text for partner in partners for text in partner["captions"]]
        assert (row["extra_mood"], row["extra_pseudo_pair"]) == (partners[0]["extra_mood"], True)
        assert own[image]["captions"] == []
    assert list(then) == [row["id"] for row in before if row["captions"] and row["width"]] + [
        before[-1]["id"]  # the text of the test split
    ]
    for name, row in then.items():
        assert {**own[name], "extra_pseudo_pair": False} == row
    html = (out / "pair.html").read_text()
    assert html.count("<li><img") == 48
    assert not re.search(r"https?://|<script|<link", html)


def test_the_energies_of_matches_are_those_of_the_model(
    tiny_run: Path, mixed: Path, tmp_path: Path
) -> None:
    """Of a text of two captions the mean over both."""
    out = tmp_path / "matches"
    given = ["--run", str(tiny_run), "--out", str(out), "--keep", "0.5"]
    assert main(["pair", str(mixed), *given]) == 0
    facts = json.loads((out / "pair.json").read_text())
    assert facts["kept"] == round(facts["pairs"] / 2)
    pair = json.loads((out / "pairs.jsonl").read_text().splitlines()[0])
    image = Store(str(mixed)).images(np.array([pair["row"]]))[0]
    (tmp_path / "image.png").write_bytes(image or b"")
    energy = tijepa.load(tiny_run).energy(tmp_path / "image.png", pair["captions"]).mean().item()
    assert pair["energy"] == pytest.approx(energy, abs=1e-4)
    assert pair["energy"] == min(one["energy"] for one in facts["best"])


def test_a_second_pairing_keeps_what_the_first_one_said(
    tiny_run: Path, mixed: Path, tmp_path: Path
) -> None:
    """The best tenth alone leaves images and texts for the second."""
    first, second = tmp_path / "first.lance", tmp_path / "second.lance"
    for store, new, keep in ((mixed, first, ["--keep", "0.1"]), (first, second, [])):
        given = ["--run", str(tiny_run), "--out", str(new.with_suffix("")), "--store", str(new)]
        assert main(["pair", str(store), *given, *keep]) == 0
    pseudo = [{r["id"] for r in held(s) if r["extra_pseudo_pair"]} for s in (first, second)]
    assert 0 < len(pseudo[0]) < 20
    assert pseudo[0] < pseudo[1]
    assert len(pseudo[1]) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "80"], "--keep is 80.0: it must lie between 0 and 1"),
        (["--store", "more"], "--store more does not end with .lance"),
        (["--where", "likes > 3"], "column 'likes' is unknown"),
        (["--where", "split = 'test'"], "0 images without caption and 0 captions"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(
    tiny_run: Path,
    mixed: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "matches"
    given = ["pair", str(mixed), "--run", str(tiny_run), "--out", str(out), *arguments]
    assert main(given) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
