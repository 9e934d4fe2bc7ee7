"""The command line: one file per verb, each of which parses, calls and prints."""

from __future__ import annotations

from tijepa.cli.app import main

__all__ = ["main"]
