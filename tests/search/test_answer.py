from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tijepa.search import Index
from tijepa.search.answer import ask, print_answer


def test_names_stay_whole_where_the_terminal_is_narrow(index: Index) -> None:
    """A name of 38 letters beside a long caption, in 80 columns: the caption takes more lines."""
    answer = ask(index, text="a red circle", k=2)
    name = "photos/2026/summer/IMG_20260714_001.jpg"
    hits = [replace(hit, id=name, caption="a red circle " * 20) for hit in answer.hits]
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    print_answer(console, replace(answer, hits=hits), index)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.count(name) == 2
    assert max(map(len, printed.splitlines())) <= 80
