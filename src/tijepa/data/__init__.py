"""Pairs in, batches out."""

from __future__ import annotations

from tijepa.data.open import open_splits

__all__ = ["open_splits"]
