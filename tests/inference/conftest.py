"""Fixtures that embeddings and objectives share."""

from __future__ import annotations

from tests.objectives.conftest import make_model

__all__ = ["make_model"]
