"""Search by energy among the images and captions of a store."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import tijepa
from tijepa import ConfigError, DataError, Embedder
from tijepa.cli.terminal import ConsoleReporter
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store
from tijepa.search import Index, embed_store
from tijepa.search.filter import filter_store
from tijepa.search.manifest import index_folder

QUERIES = ["a red circle left of a blue star", "a small green square"]


def contents(store: Path) -> tuple[list[str], list[list[str]], list[bytes]]:
    held = Store(str(store))
    table = held.dataset.to_table(["id", "captions"])
    ids, captions = (table[name].to_pylist() for name in ("id", "captions"))
    images = held.images(np.arange(len(ids)))
    return ids, captions, images


def energies_by_hand(embedder: Embedder, store: Path, tmp_path: Path) -> torch.Tensor:
    """Energies by which the queries find every image of the store."""
    paths = []
    for number, data in enumerate(contents(store)[2]):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(data)
    e = embedder.embeddings(paths, QUERIES)
    return embedder.search_energies_of(e, embedder.default_form).images


def test_the_index_covers_every_image_and_caption_of_the_store(index: Index) -> None:
    """32 + 12 + 12 pairs of two captions each; rows of halves, of 2 D = 16 dimensions of the heads,
    those of the direct expert, and two more."""
    assert (index.card.rows, index.card.images, index.card.texts) == (56, 56, 112)
    assert (index.form, len(index), index.stale_rows) == ("calibrated", 56, 0)
    assert index.embedder.calibration is not None
    direct = index.embedder.calibration.direct
    kept = 0 if direct is None else len(direct.to_text.predicted_whiten)
    assert index.card.length == 2 * (16 + kept + 2)


def test_hits_are_the_images_of_lowest_energy_in_order(
    index: Index, embedder: Embedder, prepared: Path, tmp_path: Path
) -> None:
    by_hand = energies_by_hand(embedder, prepared, tmp_path)
    ids, captions, _ = contents(prepared)
    found = index.search(embedder.encode_text(QUERIES, form=index.form), k=5)
    for query, hits in enumerate(found):
        order = by_hand[:, query].argsort()[:5].tolist()
        assert [hit.row for hit in hits] == order
        assert [hit.id for hit in hits] == [ids[row] for row in order]
        assert [hit.caption for hit in hits] == [captions[row][0] for row in order]
        assert [hit.score for hit in hits] == pytest.approx((-by_hand[order, query]).tolist(), 1e-4)


def test_a_hit_has_score_and_probability_of_its_search_and_the_energy_of_the_pair(
    index: Index, embedder: Embedder, prepared: Path, tmp_path: Path
) -> None:
    (tmp_path / "asked.png").write_bytes(contents(prepared)[2][3])
    text = contents(prepared)[1][3][1]
    rows = embedder.encode_image(tmp_path / "asked.png", form=index.form)
    hits = index.search(rows, k=200, among="texts")[0]
    (hit,) = (hit for hit in hits if hit.caption == text and hit.row == 3)
    assert hit.energy is not None
    e = embedder.embeddings(tmp_path / "asked.png", text)
    both = embedder.search_energies_of(e, index.form)
    assert embedder.calibration is not None
    assert embedder.calibration.match is not None
    match = embedder.calibration.match.texts
    assert hit.score == pytest.approx(-both.texts.item(), abs=1e-3)
    assert hit.energy == pytest.approx(both.pair.item(), abs=1e-3)
    assert hit.energy == pytest.approx(
        embedder.energy(tmp_path / "asked.png", text).item(), abs=1e-3
    )
    assert abs(hit.energy + hit.score) > 1e-2
    assert hit.probability == pytest.approx(match.probability(both.texts).item(), abs=1e-4)


def test_an_image_finds_images_of_which_the_same_texts_are_expected(
    index: Index, embedder: Embedder, prepared: Path, tmp_path: Path
) -> None:
    """Itself first, of cosine 1; the others by the cosine of the halves without ends."""
    paths = []
    for number, data in enumerate(contents(prepared)[2]):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(data)
    rows = embedder.encode_image(paths, form=index.form)
    hits = index.search_alike(rows[7:9], k=5)
    half = torch.nn.functional.normalize(rows[:, : rows.shape[1] // 2 - 2], dim=1)
    for query, found in zip((7, 8), hits, strict=True):
        cosine = half @ half[query]
        assert found[0].score == pytest.approx(1.0, abs=1e-5)
        expected = cosine.sort(descending=True).values[:5].tolist()
        assert [hit.score for hit in found] == pytest.approx(expected, abs=1e-5)
        assert [float(cosine[hit.row]) for hit in found] == pytest.approx(expected, abs=1e-5)
        assert {(hit.energy, hit.probability) for hit in found} == {(None, None)}
    tested = index.search_alike(rows[7:8], k=100, where="split = 'test'")[0]
    assert {hit.split for hit in tested} == {"test"}
    assert len(tested) == 12
    with pytest.raises(ConfigError, match="k is 0"):
        index.search_alike(rows[:1], k=0)


def test_an_image_finds_captions_each_with_its_own_item(
    index: Index, embedder: Embedder, prepared: Path
) -> None:
    """All 112 captions come back once, each from the item that holds it."""
    _, captions, images = contents(prepared)
    image = np.asarray(Image.new("RGB", (32, 32), (200, 30, 30)))
    hits = index.search(embedder.encode_image(image, form=index.form), k=500, among="texts")[0]
    assert len(hits) == 112
    assert {(hit.row, hit.caption) for hit in hits} == {
        (row, text) for row, own in enumerate(captions) for text in own
    }
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert index.images([hits[0].row, hits[0].row, 7]) == [images[hits[0].row]] * 2 + [images[7]]


def test_a_condition_leaves_only_rows_for_which_it_holds(index: Index, embedder: Embedder) -> None:
    """Row r has r % 5 likes; the test split is rows 44 to 55, of which 4 have more than 2 likes."""
    rows = embedder.encode_text(QUERIES, form=index.form)
    hits = index.search(rows, k=10, where="split = 'test' AND likes > 2")[0]
    expected = {row for row in range(44, 56) if row % 5 > 2}
    assert {hit.row for hit in hits} == expected
    everything = [h for h in index.search(rows, k=56)[0] if h.row in expected]
    assert hits == everything
    assert index.search(rows, where="likes > 99") == [[], []]


def test_a_model_without_calibration_is_searched_by_cosine(
    embedder: Embedder, store: Path, tmp_path: Path
) -> None:
    plain = Embedder(embedder.model, embedder.tokenizer, embedder.card, None)
    index = Index.build(plain, str(store))
    assert (index.form, index.card.length) == ("cosine", 16)
    hit = index.search(plain.encode_text(QUERIES), k=1)[0][0]
    path = tmp_path / "hit.png"
    path.write_bytes(index.images([hit.row])[0] or b"")
    assert hit.energy == pytest.approx(plain.energy(path, QUERIES[0]).item(), abs=1e-5)
    assert hit.score == pytest.approx(1 - hit.energy, abs=1e-6)
    assert hit.probability is None


def test_opening_gives_what_building_gave(
    index: Index, embedder: Embedder, prepared: Path, tiny_run: Path
) -> None:
    opened = Index.open(tiny_run, str(prepared))
    rows = embedder.encode_text(QUERIES, form=index.form)
    assert opened.card == index.card
    assert opened.search(rows) == index.search(rows)


def test_an_interrupt_loses_one_chunk_and_the_next_call_goes_on(
    index: Index, embedder: Embedder, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of 10, stopped at the third: rows 0 to 19 stay, and the result is equal."""
    monkeypatch.setattr(embed_store, "ROWS", 10)
    encode, calls = Embedder.encode_text, [0]

    def interrupted(self: Embedder, texts: list[str], **options: str) -> torch.Tensor:
        calls[0] += len(texts) > 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return encode(self, texts, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "encode_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Index.build(embedder, str(store), threads=1)
    folder = index_folder(str(store), index.card.model)
    assert len((folder / "journal.jsonl").read_text().splitlines()) == 2
    with pytest.raises(DataError, match="has no index of this model: make it with: tijepa index"):
        Index.open(embedder, str(store))
    seen = _encoded_images(monkeypatch)
    again = Index.build(embedder, str(store), threads=1)
    assert sum(seen) == 36
    rows = embedder.encode_text(QUERIES, form=index.form)
    for ours, theirs in zip(again.search(rows, 56)[0], index.search(rows, 56)[0], strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)


def test_what_a_stopped_process_wrote_beyond_its_journal_is_cut_off(
    index: Index, embedder: Embedder, store: Path
) -> None:
    first = Index.build(embedder, str(store))
    journal = first.folder / "journal.jsonl"
    lines = journal.read_bytes()
    journal.write_bytes(lines[:-20])  # a torn line
    (first.folder / "index.json").unlink()
    again = Index.build(embedder, str(store))
    assert journal.read_bytes() == lines
    rows = embedder.encode_text(QUERIES, form=index.form)
    assert again.search(rows) == index.search(rows)


def _encoded_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with the number of images of each call of `encode_image`."""
    seen: list[int] = []
    encode = Embedder.encode_image

    def counted(self: Embedder, images: list[np.ndarray], **options: str) -> torch.Tensor:
        seen.append(len(images))
        return encode(self, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "encode_image", counted)
    return seen


def test_rows_that_were_appended_are_embedded_alone(
    embedder: Embedder,
    store: Path,
    append: Callable[[Path, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Index.build(embedder, str(store))
    append(store, 3)
    old = Index.open(embedder, str(store))
    assert (old.card.rows, old.stale_rows) == (56, 3)
    seen = _encoded_images(monkeypatch)
    new = Index.build(embedder, str(store))
    assert sum(seen) == 3
    assert (new.card.rows, new.card.version, new.stale_rows) == (59, 2, 0)
    rows = embedder.encode_text(["plain 1"], form=new.form)
    assert {56, 57, 58} <= {hit.row for hit in new.search(rows, k=59)[0]}


def test_building_again_embeds_nothing(
    embedder: Embedder, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Index.build(embedder, str(store)).card
    seen = _encoded_images(monkeypatch)
    assert Index.build(embedder, str(store)).card == card
    assert seen == []


def test_a_store_that_was_written_anew_is_noticed(
    embedder: Embedder, store: Path, pairs_folder: Path
) -> None:
    """The same images with other captions, at the same version 1."""
    Index.build(embedder, str(store))
    shutil.rmtree(store)
    other = store.parent / "other"
    shutil.copytree(pairs_folder, other)
    text = (other / "captions.jsonl").read_text()
    (other / "captions.jsonl").write_text(text.replace("circle", "disc").replace("square", "box"))
    write_store(open_reader(str(other)), str(store))
    with pytest.raises(DataError, match="was written anew since it was indexed: make it with"):
        Index.open(embedder, str(store))
    index = Index.build(embedder, str(store))
    texts = {hit.caption for hit in _all_texts(index)}
    assert texts == {text for own in contents(store)[1] for text in own}


def test_an_index_opens_at_its_own_rows_after_the_vector_store_has_grown(
    embedder: Embedder, store: Path, append: Callable[[Path, int], None], tmp_path: Path
) -> None:
    """`filter` embeds the three new rows, and the index goes on to answer for its 56."""
    built = Index.build(embedder, str(store))
    rows = embedder.encode_text(QUERIES, form=built.form)
    before = built.search(rows, 99)
    append(store, 3)
    filter_store(embedder, str(store), tmp_path / "filtered", keep=0.5)
    opened = Index.open(embedder, str(store))
    assert (opened.card, opened.stale_rows) == (built.card, 3)
    assert opened.search(rows, 99) == before


def test_an_index_whose_vector_store_lost_rows_is_refused(embedder: Embedder, store: Path) -> None:
    index = Index.build(embedder, str(store))
    (index.folder / "journal.jsonl").write_text("")
    with pytest.raises(DataError, match="make it with: tijepa index"):
        Index.open(embedder, str(store))


def test_two_builders_of_one_index_embed_each_row_once(
    index: Index, embedder: Embedder, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second starts while the first one embeds, would be through in half a second, and says
    that it waits."""
    said = Console(record=True, width=200)
    seen = _encoded_images(monkeypatch)
    counted, begun, go = Embedder.encode_image, threading.Event(), threading.Event()

    def slow(self: Embedder, images: list[np.ndarray], **options: str) -> torch.Tensor:
        if not begun.is_set():
            begun.set()
            assert go.wait(60)
        return counted(self, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "encode_image", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(Index.build, embedder, str(store))
        assert begun.wait(60)
        second = pool.submit(Index.build, embedder, str(store), reporter=ConsoleReporter(said))
        wait([second], timeout=0.5)
        go.set()
        built = [first.result(60), second.result(60)]
    assert sum(seen) == 56
    assert "waiting for another process that fills" in said.export_text()
    rows = embedder.encode_text(QUERIES, form=index.form)
    assert built[0].search(rows) == built[1].search(rows) == index.search(rows)


def _all_texts(index: Index) -> list[tijepa.search.Hit]:
    image = np.zeros((32, 32, 3), np.uint8)
    rows = index.embedder.encode_image(image, form=index.form)
    return index.search(rows, k=1000, among="texts")[0]


def test_two_models_have_an_index_each(embedder: Embedder, index: Index, prepared: Path) -> None:
    other = Embedder(embedder.model, embedder.tokenizer, embedder.card, None)
    assert other.default_form == "cosine"
    with pytest.raises(DataError, match="has no index of this model"):
        Index.open(other, str(prepared))


def test_an_image_that_cannot_be_read_is_counted_and_its_captions_are_found(
    embedder: Embedder, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = embed_store.decode_image
    broken = contents(store)[2][5]

    def damaged(data: bytes, min_side: int) -> np.ndarray:
        if data == broken:
            raise DataError("damaged")
        return decode(data, min_side)

    monkeypatch.setattr(embed_store, "decode_image", damaged)
    index = Index.build(embedder, str(store))
    assert (index.card.images, index.card.texts, index.card.unreadable) == (55, 112, 1)
    rows = embedder.encode_text(QUERIES, form=index.form)
    assert {hit.row for hit in index.search(rows, k=99)[0]} == set(range(56)) - {5}
    assert 5 in {hit.row for hit in _all_texts(index)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0: it must be at least 1"),
        ({"where": "likes >"}, 'cannot filter by "likes >"'),
        ({"where": "loves > 3"}, "column 'loves' is unknown; did you mean 'likes'"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    index: Index, embedder: Embedder, change: dict[str, object], message: str
) -> None:
    rows = embedder.encode_text(QUERIES, form=index.form)
    with pytest.raises(ConfigError, match=message) as caught:
        index.search(rows, **change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_rows_of_another_form_are_refused(index: Index, embedder: Embedder) -> None:
    with pytest.raises(
        ConfigError, match=rf"queries have 16 numbers, and the index {index.card.length}"
    ):
        index.search(embedder.encode_text(QUERIES, form="cosine"))


def test_a_source_that_is_no_store_is_refused_with_what_makes_one(embedder: Embedder) -> None:
    with pytest.raises(ConfigError, match="photos is no store: make one with: tijepa prepare"):
        Index.build(embedder, "photos")


def test_a_damaged_card_is_refused(embedder: Embedder, store: Path) -> None:
    index = Index.build(embedder, str(store))
    path = index.folder / "index.json"
    path.write_text(json.dumps({**asdict(index.card), "format": 1, "rows": None, "colour": 3}))
    with pytest.raises(DataError, match=r"is damaged: delete .* and index anew"):
        Index.open(embedder, str(store))


def test_items_of_one_modality_are_found_from_the_other(embedder: Embedder, tmp_path: Path) -> None:
    """Rows 0 and 1 are images alone, 2 and 3 captions alone."""
    source = tmp_path / "mixed"
    source.mkdir()
    rows: list[dict[str, object]] = []
    for number in range(2):
        Image.new("RGB", (32, 32), (200 * number, 30, 30)).save(source / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": [], "split": "train"})
    rows += [{"captions": [f"caption {number}"], "split": "train"} for number in range(2)]
    (source / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_store(open_reader(str(source)), str(tmp_path / "mixed.lance"))
    index = Index.build(embedder, str(tmp_path / "mixed.lance"))
    assert (index.card.images, index.card.texts, index.card.unreadable) == (2, 2, 0)
    found = index.search(embedder.encode_text("a circle", form=index.form))[0]
    assert {(hit.row, hit.caption) for hit in found} == {(0, None), (1, None)}
    assert {(hit.row, hit.caption) for hit in _all_texts(index)} == {
        (2, "caption 0"),
        (3, "caption 1"),
    }
    assert index.images([1, 2])[1] is None
