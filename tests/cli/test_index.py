"""From a run and a store to answers: index, search, embed, filter."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.complaints import below_reading

import tijepa
from tijepa.cli import main
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store
from tijepa.search.columns import rows_where


@pytest.fixture(scope="module")
def indexed(pairs_folder: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the 56 pairs with its index."""
    store = tmp_path_factory.mktemp("cli-search") / "pairs.lance"
    write_store(open_reader(str(pairs_folder)), str(store))
    assert main(["index", str(tiny_run), str(store), "--threads", "1"]) == 0
    return store


@pytest.fixture
def asked(tiny_run: Path, indexed: Path) -> list[str]:
    return ["search", str(tiny_run), str(indexed)]


def test_index_says_what_it_holds_and_how_to_search_it(
    tiny_run: Path, indexed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(tiny_run), str(indexed)]) == 0
    out = capsys.readouterr().out
    assert "version 1: 56 images, 112 captions, calibrated energy" in out
    assert "images    56: searched exactly" in out
    assert f"tijepa search {tiny_run} {indexed} words" in out


def test_search_prints_hits_best_first(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, "a red circle", "--json", "--k", "3"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["among"], facts["rows"], facts["behind"]) == ("images", 56, 0)
    assert facts["recall_at_10"] is None
    scores = [hit["score"] for hit in facts["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert main([*asked, "a red circle", "--k", "3"]) == 0
    out = capsys.readouterr().out
    assert [out.index(hit["id"]) for hit in facts["hits"]] == sorted(
        out.index(hit["id"]) for hit in facts["hits"]
    )


def test_an_image_asks_for_captions_and_the_gallery_needs_no_network(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, page = tmp_path / "red.png", tmp_path / "gallery.html"
    Image.new("RGB", (40, 40), (200, 20, 20)).save(image)
    where = ["--where", "split = 'test'"]
    assert main([*asked, "--image", str(image), "--json", "--html", str(page), *where]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["among"], len(facts["hits"])) == ("texts", 10)
    assert {hit["split"] for hit in facts["hits"]} == {"test"}
    html = page.read_text()
    assert html.count("<li><img") == 10
    assert html.count('src="data:image/') == 11
    assert not re.search(r"https?://|<script|<link", html)
    for hit in facts["hits"]:
        assert hit["caption"] in html


def test_an_image_asks_for_images_like_it(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, page = tmp_path / "red.png", tmp_path / "gallery.html"
    Image.new("RGB", (40, 40), (200, 20, 20)).save(image)
    assert main([*asked, "--like", str(image), "--json", "--html", str(page)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["among"], facts["alike"], facts["form"]) == ("images", True, "cosine")
    scores = [hit["score"] for hit in facts["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert "Images like red.png" in page.read_text()
    assert main([*asked, "--like", str(image)]) == 0
    assert "score (cosine)" in capsys.readouterr().out
    assert main([*asked, "red", "--like", str(image)]) == 2


def test_markup_in_a_question_is_shown_and_not_interpreted(
    asked: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "gallery.html"
    assert main([*asked, "<script>alert(1)</script>", "--html", str(page)]) == 0
    assert "<script>" not in page.read_text()


def test_numbers_of_a_table_are_compared_as_numbers_with_decimal_commas_too(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text(
        "image;caption;price\n" + "".join(f";a cup {k};{k},50\n" for k in range(30))
    )
    store = str(tmp_path / "cups.lance")
    tijepa.prepare(str(tmp_path), store)
    assert len(rows_where(Store(store), "price > 27.2")) == 3


def test_columns_of_the_store_stand_under_each_hit(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "gallery.html"
    arguments = [*asked, "a star", "--k", "2", "--columns", "width, format"]
    assert main([*arguments, "--html", str(page)]) == 0
    assert capsys.readouterr().out.count("width 32, format PNG") == 2
    assert page.read_text().count("width 32, format PNG") == 2
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["base_rate"] == 0.5
    assert facts["fits"] is (facts["hits"][0]["probability"] >= 0.1)
    assert facts["hits"][0]["columns"]["height"] == 32
    assert main([*asked, "a star", "--columns", "widht"]) == 2
    assert "column 'widht' is unknown; did you mean 'width'?" in capsys.readouterr().err


def test_a_condition_that_nothing_meets_says_so(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, "a star", "--where", "width > 5000"]) == 0
    assert "No images meet the condition" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"Give TEXT, --image or --like"),
        (["a star", "--where", "colour = 1"], r"column 'colour' is unknown"),
        (["a star", "--k", "0"], r"'--k': 0 is not in the range"),
        (["--image", "none.jpg"], r"'none.jpg' does not exist"),
    ],
)
def test_mistakes_are_one_line(
    asked: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, *arguments]) == 2
    err = below_reading(capsys.readouterr().err)
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_a_store_without_an_index_says_what_makes_one(
    tiny_run: Path, indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = shutil.copytree(indexed, tmp_path / "other.lance")
    asked = ["search", str(tiny_run), str(store), "a star", "--checkpoint", "last"]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "has no index of this model: make it with: tijepa index" in said
    assert main(shlex.split(said.split("make it with: tijepa ")[1])) == 0
    assert main(asked) == 0


def test_embeddings_in_parquet_are_those_of_the_model(
    tiny_run: Path, indexed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "embeddings.parquet"
    assert main(["embed", str(tiny_run), str(indexed), "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert table.column_names == ["id", "row", "kind", "split", "caption", "embedding"]
    assert table["kind"].to_pylist() == ["image"] * 56 + ["text"] * 112
    texts = table.slice(56)
    captions = [
        c
        for own in Store(str(indexed)).take(np.arange(56), ["captions"])["captions"].to_pylist()
        for c in own
    ]
    assert texts["caption"].to_pylist() == captions
    expected = tijepa.load(tiny_run).encode_text(captions, form="calibrated").numpy()
    held = np.array(texts["embedding"].to_pylist(), np.float32)
    assert np.allclose(held, expected, atol=1e-4)


def test_embeddings_as_a_matrix_have_their_rows_listed(
    tiny_run: Path, indexed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "embeddings.npy"
    arguments = ["--out", str(out), "--form", "cosine", "--only", "images"]
    assert main(["embed", str(tiny_run), str(indexed), *arguments]) == 0
    matrix = np.load(out)
    assert matrix.shape == (56, 16)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(56))
    assert {row["caption"] for row in rows} == {None}
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "embeddings.jsonl",
        "embeddings.npy",
    ]


def test_embeddings_of_no_known_format_are_refused_before_anything_is_done(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", str(tiny_run), "none.lance", "--out", str(tmp_path / "a.csv")]) == 2
    assert "ends neither with .parquet nor with .npy" in capsys.readouterr().err


def test_filter_keeps_the_pairs_of_lowest_energy_and_writes_a_store_of_them(
    tiny_run: Path, indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the 64 pairs of the train split 16 go; the other 48 pairs are not judged and stay."""
    out, clean = tmp_path / "filtered", tmp_path / "clean.lance"
    arguments = ["--run", str(tiny_run), "--keep", "0.75", "--out", str(out)]
    arguments += ["--store", str(clean)]
    assert main(["filter", str(indexed), *arguments]) == 0
    assert f"tijepa train --data {clean}" in capsys.readouterr().out
    facts = json.loads((out / "filter.json").read_text())
    assert (facts["pairs"], facts["kept"], facts["dropped"]) == (64, 48, 16)
    kept, dropped = (
        [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        for name in ("kept", "dropped")
    )
    assert (len(kept), len(dropped)) == (48, 16)
    assert max(p["energy"] for p in kept) <= min(p["energy"] for p in dropped)
    assert min(p["probability"] for p in kept) >= max(p["probability"] for p in dropped)
    held = Store(str(clean)).dataset.to_table(["id", "captions", "split"]).to_pylist()
    train = [(r["id"], text) for r in held if r["split"] == "train" for text in r["captions"]]
    assert sorted(train) == sorted((p["id"], p["caption"]) for p in kept)
    assert sum(len(row["captions"]) for row in held if row["split"] != "train") == 48
    html = (out / "filter.html").read_text()
    assert "<svg" in html
    assert html.count("<li><img") == 48
    assert not re.search(r"https?://|<script|<link", html)


def test_the_energies_of_a_filter_are_those_of_the_model(
    tiny_run: Path, indexed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "filtered"
    assert (
        main(["filter", str(indexed), "--run", str(tiny_run), "--keep", "0.9", "--out", str(out)])
        == 0
    )
    pair = json.loads((out / "dropped.jsonl").read_text().splitlines()[0])
    image = Store(str(indexed)).images(np.array([pair["row"]]))[0]
    (tmp_path / "image.png").write_bytes(image)
    model = tijepa.load(tiny_run)
    energy = model.energy(tmp_path / "image.png", pair["caption"]).item()
    assert pair["energy"] == pytest.approx(energy, abs=1e-4)


def test_pairs_that_encoders_were_trained_on_are_said_to_be_judged_in_sample(
    tiny_run: Path, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tijepa.search.filter.trained_on", lambda *_: True)
    out = tmp_path / "filtered"
    assert tijepa.filter(tiny_run, str(indexed), out, keep=0.9).facts["judged"] == "memory"
    assert "has memorised part of them" in (out / "filter.html").read_text()
    test = tijepa.filter(
        tiny_run, str(indexed), out, keep=0.9, where="split = 'test'", all_splits=True
    )
    assert test.facts["judged"] == "by a model trained on others"


def test_held_out_pairs_are_judged_only_where_asked_for(
    tiny_run: Path, indexed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "filtered"
    arguments = ["--run", str(tiny_run), "--keep", "0.5", "--out", str(out), "--all-splits"]
    assert main(["filter", str(indexed), *arguments]) == 0
    assert json.loads((out / "filter.json").read_text())["pairs"] == 64 + 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "80"], "--keep is 80.0: it must lie between 0 and 1"),
        (["--keep", "0.5", "--store", "clean"], "--store clean does not end with .lance"),
        (["--keep", "0.5", "--where", "likes > 3"], "column 'likes' is unknown"),
        (["--keep", "0.5", "--where", "width > 999"], "no pair of an image and a caption"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_and_writes_nothing(
    tiny_run: Path,
    indexed: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "filtered"
    given = ["filter", str(indexed), "--run", str(tiny_run), "--out", str(out), *arguments]
    assert main(given) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
