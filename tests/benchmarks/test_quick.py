"""Every benchmark has a quick form that runs through and writes its record."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted({*BENCHMARKS.glob("*.py")} - {BENCHMARKS / "house.py"})  # it counts lines


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_quick_form_writes_a_complete_record(script: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(out)],
        check=True,
        timeout=280,
        capture_output=True,
    )
    record = json.loads(out.read_text())
    assert record["benchmark"] == script.stem
    assert {"date", "command", "machine", "versions", "seeds"} <= record.keys()


def test_every_benchmark_has_committed_results() -> None:
    for script in SCRIPTS:
        record = json.loads((BENCHMARKS / "results" / f"{script.stem}.json").read_text())
        assert record["benchmark"] == script.stem
        assert "--quick" not in record["command"], "a smoke test's figures mean nothing"


def test_the_comparison_without_negatives_holds_the_ratios_and_every_rate_that_was_tried() -> None:
    """ratio_to_clip is the ratio of the means over seeds that the record itself holds.

    The rate judged is the one with the highest mean among the two that the search found best.
    """
    record = json.loads((BENCHMARKS / "results" / "negatives.json").read_text())
    for batch, by in record["summary"].items():
        assert record["ratio_to_clip"][batch] == pytest.approx(
            by["tijepa"]["mean"] / by["clip"]["mean"]
        )
        for name, row in by.items():
            tried = {
                r["lr"]: r
                for r in record["learning_rates_tried"]
                if r["objective"] == name and str(r["batch"]) == batch
            }
            assert len(tried) >= 3
            means = {lr: r["mean"] for lr, r in tried.items() if "mean" in r}
            searched = sorted(tried, key=lambda lr: -tried[lr]["validation"])
            assert means.keys() == set(searched[:2])
            assert max(means, key=lambda lr: means[lr]) == row["lr"]
    assert {"16", "64"} <= record["ratio_to_clip"].keys()


def test_the_gain_of_items_without_partner_is_that_of_the_means_in_the_record() -> None:
    """Each variant at its best number of steps, whose mean over seeds `summary` holds."""
    record = json.loads((BENCHMARKS / "results" / "unpaired.json").read_text())
    best = {
        name: max(by[name]["mean"] for by in record["summary"].values()) for name in record["best"]
    }
    assert record["best"] == pytest.approx(best)
    alone = best.pop("alone")
    assert record["gain"] == pytest.approx(max(best.values()) / alone)


def test_the_loader_is_compared_with_the_better_peer() -> None:
    """ratio_to_best_peer is the ratio of the medians over the rounds that the record holds."""
    record = json.loads((BENCHMARKS / "results" / "loader.json").read_text())
    rates = {
        name: statistics.median(by["processor"]) for name, by in record["raw"]["rounds"].items()
    }
    peers = [rate for name, rate in rates.items() if name != "tijepa"]
    assert len(peers) == 2
    assert record["ratio_to_best_peer"] == pytest.approx(rates["tijepa"] / max(peers))
    assert record["data_wait_share"] == statistics.median(record["raw"]["data_wait"])


def test_encoding_is_compared_with_the_better_precision_of_the_peer_on_texts_of_equal_length() -> (
    None
):
    """ratio_to_transformers is the ratio of pairs a second by the median seconds of the record."""
    record = json.loads((BENCHMARKS / "results" / "encode.json").read_text())
    rates = {
        name: record["batch"]
        / sum(statistics.median(by[part]["wall"]) for part in ("image", "text"))
        for name, by in record["raw"]["seconds"].items()
    }
    theirs = max(rate for name, rate in rates.items() if name.startswith("transformers"))
    assert record["ratio_to_transformers"] == pytest.approx(rates[record["headline"]] / theirs)
    tokens = record["mean_tokens"]
    assert tokens["transformers"] <= tokens["tijepa"] + 1.5
    assert record["parity"][record["headline"]]["mean_cosine"] > 0.999
