from __future__ import annotations

import io

import pytest
from rich.console import Console

from tijepa.cli.tables import print_answer
from tijepa.errors import ConfigError
from tijepa.search import Index
from tijepa.search.answer import Answer, ask
from tijepa.search.exact import Hit


def test_an_empty_text_is_no_question(index: Index) -> None:
    for text in ("", "  "):
        with pytest.raises(ConfigError, match="the text is empty: say what to look for"):
            ask(index, text=text)


def test_ids_and_captions_stand_whole_in_a_terminal_of_80_columns(index: Index) -> None:
    """Beside score and probability a cell has some 47 columns, which an id of 45 fills."""
    item = "photos/2026-11-28/holiday_at_the_sea/0001.jpg"
    caption = "two dogs, one of them wet, run along the sea and look at a bird that flies away"
    answer = Answer("dogs", None, None, [Hit(item, 3, 25.8, -8.8, 0.854, caption, "train")])
    out = io.StringIO()
    print_answer(Console(file=out, width=80), answer, index)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert any(line.endswith(item) for line in lines)
    assert caption in " ".join(lines)


def test_a_search_that_nothing_fits_says_so_with_the_base_rate(index: Index) -> None:
    """A best hit of 9 % lies below the bound of 10 %, one of 11 % above."""
    out = io.StringIO()
    low = Answer("dogs", None, None, [Hit("a", 3, -9.0, 4.0, 0.09, None, "train")])
    print_answer(Console(file=out, width=200), low, index)
    said = out.getvalue().replace("\u00a0", " ")
    assert said.startswith("Nothing fits: the best hit's probability of match, 9.0 %, lies far")
    assert "base rate 50.0 %" in said
    assert (low.fits, low.base_rate) == (False, 0.5)
    high = Answer("dogs", None, None, [Hit("a", 3, 9.0, -4.0, 0.11, None, "train")])
    assert (high.fits, high.nothing) == (True, None)
    unknown = Answer("dogs", None, None, [Hit("a", 3, 0.4, 0.6, None, None, "train")])
    assert (unknown.fits, unknown.base_rate, unknown.nothing) == (None, None, None)


def test_control_characters_of_a_caption_are_shown_and_not_obeyed(index: Index) -> None:
    hostile = Hit("a\x1b]0;b.jpg", 3, 1.0, None, 0.5, "red \x1b[31m and [bold]loud[/]\r", "train")
    out = io.StringIO()
    print_answer(Console(file=out, width=80), Answer("dogs", None, None, [hostile]), index)
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    assert r"a\x1b]0;b.jpg" in out.getvalue()
    assert r"red \x1b[31m and [bold]loud[/]\r" in out.getvalue()
