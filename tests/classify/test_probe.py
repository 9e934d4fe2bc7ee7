from __future__ import annotations

from pathlib import Path

import pytest

from tijepa.classify import probe_run
from tijepa.classify.fit import Method
from tijepa.classify.labels import Side


@pytest.mark.parametrize("method", ["linear", "knn"])
@pytest.mark.parametrize(("side", "items"), [("image", 41), ("text", 41), ("pair", 40)])
def test_every_probe_finds_what_every_side_gives_away(
    side: Side, items: int, method: Method, tiny_run: Path, tweets: Path
) -> None:
    results = probe_run(tiny_run, str(tweets), "mood", side=side, method=method, folds=3)
    assert results["items"] == items
    assert results["cross_validation"]["accuracy"]["value"] > 0.85
