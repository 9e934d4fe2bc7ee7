from __future__ import annotations

from typing import Any

import pytest
import torch

from tijepa.evaluate.match import reliability
from tijepa.runs.record import RunRecord
from tijepa.runs.report.match import match


def record(results: dict[str, Any] | None) -> RunRecord:
    return RunRecord("run", None, None, (), (), results, None, {})


def measured() -> dict[str, Any]:
    p = torch.tensor([0.85, 0.85, 0.85, 0.05], dtype=torch.float64)
    return {
        "fitted_on": "validation",
        "matched_pairs": 2,
        "shuffled_pairs": 1200,
        "roc_auc": 0.75,
        **reliability(p, torch.tensor([True, True, False, False])),
    }


def test_the_figures_and_a_dot_for_each_bin_that_holds_pairs_are_drawn() -> None:
    """Bins 0 and 8. A probability of .85 lies at 48 + .85 · 236 = 248.6, matched ⅔ at 10 + 236/3.

    The area is the share: three quarters of the weight have the radius 11 √¾ = 9.5.
    """
    drawn = match(record({"match_probability": measured()}))
    assert drawn.count("<circle") == 2
    assert 'cx="248.6" cy="88.7" r="9.5"' in drawn
    assert 'cx="59.8" cy="246.0" r="5.5"' in drawn
    assert "calibration error 0.150, Brier score 0.19" in drawn
    assert "2 matched and 1,200 shuffled pairs" in drawn
    assert "ROC curve 0.750" in drawn
    assert "85.0\u00a0% predicted, 66.7\u00a0% matched, 75.0\u00a0% of pairs" in drawn


@pytest.mark.parametrize("results", [None, {}, {"match_probability": None}])
def test_a_model_without_it_says_so(results: dict[str, Any] | None) -> None:
    assert "This model has no probability of match" in match(record(results))


def test_strange_figures_do_not_break_the_page() -> None:
    bins = [3, {}, {"predicted": 7.0, "matched": -2.0, "share": 90.0}]
    odd = {"bins": bins, "fitted_on": "<script>"}
    drawn = match(record({"match_probability": odd}))
    assert "<script>" not in drawn
    assert drawn.count("<circle") == 1
    assert 'cx="284.0" cy="246.0" r="11.0"' in drawn
