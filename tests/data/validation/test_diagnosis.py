from __future__ import annotations

import io
import json
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tijepa.cli.doctor import print_report
from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.validation import Diagnosis, Report, diagnose
from tijepa.data.validation.check import check_record
from tijepa.errors import DataError
from tijepa.io.progress import SILENT

EVIL = '<script>alert("1")</script> & \x1b[31m'
VOID = {"meta", "img", "br", "wbr"}


def photo(seed: int) -> bytes:
    points = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(points).resize((64, 48), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


class ListReader(Reader):
    name = "list"
    layout = "a list of records"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self.items: list[Record | Rejected] = []

    @classmethod
    def recognises(cls, source: Path) -> bool:
        return False

    def __iter__(self) -> Any:
        return iter(self.items)

    def describe(self) -> str:
        return "a list"

    def fingerprint(self) -> str:
        return "0"


def run(
    folder: Path, *items: Record | Rejected, max_bad: float = 0.01, source: str = "s"
) -> Report:
    reader = ListReader(source, ReaderOptions())
    reader.items = list(items)
    return diagnose(
        reader, folder, source=source, max_bad=max_bad, max_tokens=8, threads=1, reporter=SILENT
    )


def pair(name: str, seed: int, *captions: Any, split: str | None = "train") -> Record:
    return Record(name, f"line of {name}", photo(seed), captions or ("a dog",), split)


def rejected_path(report: Report) -> list[dict[str, str]]:
    lines = (report.folder / "rejected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class Wellformed(HTMLParser):
    """Collects tags and text; fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(report: Report) -> Wellformed:
    page = Wellformed()
    page.feed((report.folder / "doctor.html").read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_sound_pairs_are_fit(tmp_path: Path) -> None:
    report = run(tmp_path / "d", pair("a", 1), pair("b", 2, split="test"))
    assert report.fit
    assert report.facts["verdict"] == "fit"
    assert report.facts["counts"] == {
        "items": 2,
        "sound": 2,
        "rejected": 0,
        "pairs": 2,
        "images_only": 0,
        "texts_only": 0,
        "captions": 2,
        "captions_dropped": 0,
    }
    assert [step["command"] for step in report.facts["commands"]] == [
        "tijepa prepare s --out s.lance"
    ]
    assert rejected_path(report) == []


def test_a_sound_store_is_proposed_for_training_and_another_one_for_cleaning(
    tmp_path: Path,
) -> None:
    sound = run(tmp_path / "a", pair("a", 1), source="there/my pairs.lance")
    assert [step["command"] for step in sound.facts["commands"]] == [
        "tijepa train --data 'there/my pairs.lance'"
    ]
    copies = run(tmp_path / "b", pair("a", 1), pair("b", 1), source="pairs.lance")
    assert [step["command"] for step in copies.facts["commands"]] == [
        "tijepa prepare pairs.lance --out pairs-clean.lance --duplicates skip"
    ]


def test_every_item_rejected_and_every_caption_dropped_is_one_line(tmp_path: Path) -> None:
    report = run(
        tmp_path / "d",
        pair("good", 1, "a dog", "", 7),
        Record("torn", "t", photo(2)[:-30], ("", "a dog")),
        Record("mute", "m", photo(3), ("", " ")),
        Rejected("line 9", "not a row"),
        Record("text", "x", None, ("only words",)),
        Record("look", "y", photo(4), ()),
    )
    assert [(line["item"], line["what"], line["kind"]) for line in rejected_path(report)] == [
        ("good", "caption", "caption-blank"),
        ("good", "caption", "caption-not-text"),
        ("torn", "item", "image-truncated"),
        ("mute", "item", "captions-all-invalid"),
        ("line 9", "item", "row-unusable"),
    ]
    assert all(line["reason"] for line in rejected_path(report))
    counts = report.facts["counts"]
    assert (counts["items"], counts["sound"], counts["rejected"]) == (6, 3, 3)
    assert (counts["pairs"], counts["texts_only"], counts["images_only"]) == (1, 1, 1)


def test_too_many_broken_items_make_a_source_unfit(tmp_path: Path) -> None:
    """1 of 4 is 25 %: above 24 %, not above 25 %."""
    items = [pair("a", 1), pair("b", 2), pair("c", 3), Record("d", "", b"", ("x",))]
    assert run(tmp_path / "a", *items, max_bad=0.25).fit
    report = run(tmp_path / "b", *items, max_bad=0.24)
    assert not report.fit
    assert report.facts["reasons"] == [
        "1 of 4 items (25.00%) are broken, above the bound of 24.00%"
    ]
    assert report.facts["commands"][0]["command"] == (
        "tijepa prepare s --out s.lance --max-bad 0.25"
    )


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "the source holds no item"),
        ([Record("a", "", b"", ())], "none of its 1 items can be used"),
        ([Record("a", "", None, ("x",))], "no item has both an image and a caption"),
    ],
)
def test_without_pairs_a_source_is_unfit(tmp_path: Path, items: list[Record], reason: str) -> None:
    report = run(tmp_path / "d", *items)
    assert report.facts["reasons"] == [reason]
    parsed(report)


def test_duplicates_are_listed_and_shown_with_the_command_that_sets_them_aside(
    tmp_path: Path,
) -> None:
    report = run(
        tmp_path / "d",
        pair("a", 1),
        pair("broken", 1, ""),
        pair("b", 1, "a cat", split="test"),
        pair("c", 2),
        pair("d", 2),
        source="my photos",
    )
    duplicates = report.facts["duplicates"]
    assert duplicates["image-in-two-splits"]["listed"] == [["a", "b"]]
    assert duplicates["duplicate-item"]["listed"] == [["c", "d"]]
    assert report.redundant.tolist() == [0, 3]  # rows of the sound items
    assert [step["command"] for step in report.facts["commands"]][-1] == (
        "tijepa prepare 'my photos' --out 'my photos-clean.lance' --max-bad 0.2 --duplicates skip"
    )
    shown = report.groups["image-in-two-splits"][0]
    assert (shown.items, shown.splits) == (("a", "b"), ("train", "test"))
    assert all(str(image).startswith("data:image/jpeg;base64,") for image in shown.images)


def test_the_page_is_well_formed_and_asks_for_nothing_else(tmp_path: Path) -> None:
    items = [pair(f"{EVIL}{n}", n, EVIL, "", split=EVIL) for n in (1, 1, 2)]
    report = run(tmp_path / "d", *items, Rejected(EVIL, EVIL), source=EVIL)
    page = parsed(report)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert str(attributes.get(name, "data:")).startswith("data:")
    assert "<script>alert" in page.text  # shown as text
    assert "\x1b" not in page.text


def test_lone_surrogates_in_names_reach_all_files(tmp_path: Path) -> None:
    report = run(
        tmp_path / "d",
        pair("\udc80a", 1),
        pair("\udc80b", 1),
        Record("\udc80c", "\udc80", b"", ()),
        max_bad=0.5,
    )
    assert report.facts["duplicates"]["duplicate-item"]["listed"] == [["\udc80a", "\udc80b"]]
    assert json.loads((report.folder / "doctor.json").read_text()) == report.facts
    assert rejected_path(report)[0]["item"] == "\udc80c"
    parsed(report)


def test_the_terminal_shows_the_verdict_and_obeys_no_name(tmp_path: Path) -> None:
    report = run(tmp_path / "d", Record(f"[bold]{EVIL}", "", b"", ()), pair("b", 1))
    output = io.StringIO()
    print_report(Console(file=output, width=60), report)
    text = output.getvalue()
    assert "unfit: 1 of 2 items (50.00%) are broken" in text
    assert "[bold]<script>" in text
    assert "\x1b" not in text
    assert "tijepa prepare s --out s.lance --max-bad 0.5" in text
    assert str(tmp_path / "d" / "doctor.html") in text


def test_an_earlier_report_is_replaced_but_no_other_folder(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    run(folder, pair("a", 1), Record("b", "", b"", ()))
    assert rejected_path(run(folder, pair("a", 1))) == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds no earlier report"):
        run(other, pair("a", 1))
    with pytest.raises(DataError, match="is a file"):
        run(other / "thesis.tex", pair("a", 1))


def test_an_interrupt_leaves_what_was_rejected_and_otherwise_no_folder(tmp_path: Path) -> None:
    for items in ([pair("a", 1)], [pair("a", 1), Record("b", "b", None, ())]):
        folder = tmp_path / str(len(items))
        with suppress(KeyboardInterrupt), Diagnosis(folder, source="s", description="d") as taken:
            for item in items:
                taken.add(check_record(item))
            raise KeyboardInterrupt
    assert not (tmp_path / "1").exists()
    assert [path.name for path in (tmp_path / "2").iterdir()] == ["rejected.jsonl"]


def test_examples_and_listed_groups_are_bounded(tmp_path: Path) -> None:
    """30 broken items give 12 examples; 60 equal items are listed by 50 of them."""
    broken = [Record(f"b{n}", "", b"", ()) for n in range(30)]
    equal = [pair(f"e{n}", 1) for n in range(60)]
    report = run(tmp_path / "d", *broken, *equal, max_bad=0.5)
    found = report.facts["findings"]["image-empty"]
    assert (found["items"], len(found["examples"])) == (30, 12)
    group = report.facts["duplicates"]["duplicate-item"]
    assert (group["groups"], group["items"], len(group["listed"][0])) == (1, 60, 50)
    assert len(report.redundant) == 59


def test_any_number_of_splits_is_counted(tmp_path: Path) -> None:
    """A split column that names every item: the first 999 and the rest in one."""
    with Diagnosis(tmp_path / "d", source="s", description="") as diagnosis:
        records = [Record(str(n), "", None, (str(n),), split=f"s{n}") for n in range(1_200)]
        for record in diagnosis.account.taking(records):
            assert isinstance(record, Record)
            diagnosis.add(check_record(record))
        report = diagnosis.finish()
    assert len(report.facts["splits"]) == 1_000
    assert report.facts["splits"]["(more than 1,000 splits)"]["items"] == 201
