"""Encoders, predictors, target encoders, and a model on disk."""

from __future__ import annotations
