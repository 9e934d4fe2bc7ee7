from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from tijepa.evaluate.retrieval import reliability
from tijepa.inference.results import RunResults
from tijepa.runs.record import RunRecord
from tijepa.runs.report.curves import match


def record(results: dict[str, Any] | None) -> RunRecord:
    return RunRecord(
        "run",
        None,
        None,
        (),
        (),
        None if results is None else RunResults.from_json(results),
        None,
        {},
    )


def measured() -> dict[str, Any]:
    p = torch.tensor([0.85, 0.85, 0.85, 0.05], dtype=torch.float64)
    of = replace(
        reliability(p, torch.tensor([True, True, False, False])),
        fitted_on="validation",
        shuffled_pairs=1200,
        roc_auc=0.75,
    )
    found: dict[str, Any] = RunResults(match_probability=of).to_json()["match_probability"]
    return found


def chart(results: dict[str, Any]) -> str:
    found = match(record({"match_probability": results}))
    assert isinstance(found, dict)
    return str(found["chart"])


def test_a_dot_for_each_bin_that_holds_pairs_is_drawn() -> None:
    """Bins 0 and 8. A probability of .85 lies at 48 + .85 · 236 = 248.6, matched ⅔ at 26 + 236/3.

    The area is the share: three quarters of the weight have the radius 11 √¾ = 9.5.
    """
    drawn = chart(measured())
    assert drawn.count("<circle") == 2
    assert 'cx="248.6" cy="104.7" r="9.5"' in drawn
    assert 'cx="59.8" cy="262.0" r="5.5"' in drawn
    assert "85.0\u00a0% predicted, 66.7\u00a0% matched, 75.0\u00a0% of pairs" in drawn


def test_the_figures_are_those_of_the_results() -> None:
    found = match(record({"match_probability": measured()}))
    assert isinstance(found, dict)
    assert found["expected_calibration_error"] == pytest.approx(0.15)
    assert (found["matched_pairs"], found["shuffled_pairs"], found["roc_auc"]) == (2, 1200, 0.75)
    assert found["fitted_on"] == "validation"


def test_the_line_leaves_out_bins_of_few_pairs() -> None:
    """100 matched and 2,000 shuffled pairs weigh .005 and .00025 each.

    A tenth of the weight, half of it matched, is 10 matched and 200 shuffled pairs, as many as
    .1 / .002625 = 38 of equal weight; a hundredth of the weight is as many as 4.
    """
    shares = {0.05: 0.89, 0.5: 0.1, 0.95: 0.01}
    bins = [{"predicted": p, "matched": 0.5, "share": share} for p, share in shares.items()]
    drawn = chart({"bins": bins, "matched_pairs": 100, "shuffled_pairs": 2000})
    line = re.search(r'<polyline class="line s1" points="([^"]*)"', drawn)
    assert line is not None
    assert line[1] == "59.8,144.0 166.0,144.0"
    assert drawn.count('class="dot few"') == 1


@pytest.mark.parametrize("results", [None, {}, {"match_probability": None}])
def test_a_model_without_it_says_so(results: dict[str, Any] | None) -> None:
    assert "This model has no probability of match" in match(record(results))


def test_strange_figures_do_not_break_the_page() -> None:
    bins = [3, {}, {"predicted": 7.0, "matched": -2.0, "share": 90.0}]
    drawn = chart({"bins": bins, "matched_pairs": 0})
    assert drawn.count("<circle") == 1
    assert 'cx="284.0" cy="262.0" r="11.0"' in drawn
