from __future__ import annotations

import math

import pytest
import torch

from tijepa.objectives.distributed import SingleProcess
from tijepa.objectives.whitening import Whitening


def value(rows: list[list[float]], epsilon: float = 1e-3) -> float:
    penalty = Whitening(epsilon=epsilon, processes=SingleProcess())
    return float(penalty(torch.tensor(rows), torch.Generator()))


def test_the_value_by_hand() -> None:
    """Rows (1, 0), (−1, 0), (0, 2), (0, −2): variances 2/3 and 8/3, no covariance.

    (2/3 + 8/3 − log(16/9) − 2) / 2 = (4/3 − 0.5754) / 2 = 0.3790, but for ε.
    """
    rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]
    assert value(rows, 1e-6) == pytest.approx((4 / 3 - math.log(16 / 9)) / 2, abs=1e-4)


def test_white_rows_cost_nothing_and_constants_the_logarithm_of_epsilon() -> None:
    half = math.sqrt(1.5)
    assert value([[half, 0.0], [-half, 0.0], [0.0, half], [0.0, -half]]) == pytest.approx(
        0, abs=1e-5
    )
    assert value([[3.0, 1.0]] * 4) == pytest.approx(1e-3 - math.log(1e-3) - 1, abs=1e-4)
    double = [[half, half], [-half, -half], [1.0, 1.0], [-1.0, -1.0]]
    assert value(double) > 2  # two dimensions that say the same
