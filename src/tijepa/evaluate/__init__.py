"""Evaluations, and the report of a run."""

from __future__ import annotations
