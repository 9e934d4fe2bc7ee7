from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from tijepa.errors import CheckpointError
from tijepa.io.page import TEMPLATES, Table, render, write_page

ATTACK = "<script>alert(1)</script>\x1b[31m"
MACROS = '{% from "macros.html" import bars, items, table %}'


def shown(source: str, **data: object) -> str:
    from tijepa.io.page import _templates

    return _templates().from_string(MACROS + source).render(**data)


def test_text_is_escaped_and_html_is_not() -> None:
    page = shown("{{ text }} {{ drawn }}", text=ATTACK, drawn=Markup("<svg></svg>"))
    assert page == r"&lt;script&gt;alert(1)&lt;/script&gt;\x1b[31m <svg></svg>"


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("base.html")


def test_a_table_names_rows_and_columns_and_marks_the_best() -> None:
    found = Table(
        "Recalls.",
        ("Run", "R@1", "R@5"),
        [[ATTACK, "10", "20"], ["b", "30", "10"]],
        groups=(("", 1), ("both ways", 2)),
        states={1: "chosen"},
        best=[(1, 1), (0, 2)],
    )
    page = shown("{{ table(t) }}", t=found)
    assert "<script>" not in page
    assert '<th scope="colgroup" colspan="2">both ways</th>' in page
    assert '<tr class="chosen"><th scope="row" dir="auto">b</th>' in page
    assert [page.count(f'<td class="{kind}">') for kind in ("split best", " best")] == [1, 1]


def test_bars_are_as_wide_as_their_share_of_the_longest() -> None:
    page = shown("{{ bars(counts) }}", counts={"a": 4, "b": 1, "c": 0})
    assert [page.count(f"width:{width}%") for width in ("100.0", "25.0", "0.0")] == [1, 1, 1]
    assert shown("{{ bars({}) }}{{ bars({'a': 0}) }}").count("width:0.0%") == 1


def test_file_names_break_after_separators_and_never_inside_their_suffix() -> None:
    page = shown("{{ name|filename }}", name="photos/holiday_<sea>.jpg")
    assert page == ('photos/<wbr>holiday_<wbr>&lt;sea&gt;<span class="nowrap">.jpg</span>')
    assert shown("{{ name|filename }}", name="item 7") == "item 7"


@pytest.mark.parametrize("file", sorted(TEMPLATES.iterdir()), ids=lambda file: file.name)
def test_no_template_loads_or_runs_anything(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for word in ("http:", "https:", "<script", "<link", "<iframe", "@import", "url(", "javascript"):
        assert word not in text
    assert not re.search(r"<[^>{]*\son\w+=", text)
    assert not re.search(r'href="(?!#)', text)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        write_page(tmp_path / "nowhere" / "a.html", "curves.html", **_empty())


def _empty() -> dict[str, object]:
    return {"run": {"train": (), "evals": ()}, "problem": None, "charts": []}
