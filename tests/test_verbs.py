"""The verbs as functions, from a folder of pairs to answers, as their docstrings show them."""

from __future__ import annotations

from pathlib import Path

import pytest

import tijepa


def test_the_verbs_are_functions_with_typed_results(
    pairs_folder: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """56 pairs of two captions each; nothing is printed, for nobody asked for it."""
    store, source = str(tmp_path / "pairs.lance"), str(pairs_folder)
    report = tijepa.doctor(source, tmp_path / "report", threads=0)
    assert report.fit
    assert report.facts["counts"]["pairs"] == 56
    prepared = tijepa.prepare(source, store, threads=0)
    assert (sum(prepared.added.values()), prepared.rejected) == (56, 0)
    index = tijepa.index(tiny_run, store, threads=1)
    assert len(index) == 56
    answer = tijepa.search(tiny_run, store, "a red circle", k=3)
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    assert len(answer.hits) == 3
    clean = str(tmp_path / "clean.lance")
    filtered = tijepa.filter(tiny_run, store, tmp_path / "out", keep=0.5, new_store=clean)
    assert filtered.facts["kept"] == 32  # of the 64 of the train split
    assert filtered.written is not None
    assert filtered.written.uri == clean
    results = tijepa.evaluate(str(tiny_run))
    assert results.retrieval is not None
    assert 0 <= results.retrieval.image_to_text.recall_at_1 <= 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


def test_errors_name_arguments_not_flags(tmp_path: Path) -> None:
    with pytest.raises(tijepa.ConfigError, match="`out` pairs does not end with"):
        tijepa.prepare(str(tmp_path), "pairs")
    with pytest.raises(tijepa.ConfigError, match="`duplicates=skip` has no effect with `append`"):
        tijepa.prepare(str(tmp_path), "p.lance", append=True, duplicates="skip")
    with pytest.raises(tijepa.ConfigError, match="give a text or `image`, one of them"):
        tijepa.search(tmp_path, "p.lance")
    with pytest.raises(tijepa.DataError, match="1 run to compare"):
        tijepa.compare(["run"])
