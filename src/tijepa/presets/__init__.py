"""Whole run configurations as data, one per file."""

from __future__ import annotations
