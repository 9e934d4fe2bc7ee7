"""Images of benchmarks as SVG that needs nothing beside it."""

from __future__ import annotations

from figures.matrix import Cell, draw_matrix
from figures.rates import draw_rates

__all__ = ["Cell", "draw_matrix", "draw_rates"]
