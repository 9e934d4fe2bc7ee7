"""What calls with arguments of a wrong type say, in a process of its own.

Here the annotations themselves would refuse them, for tests check types at run time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["complaints"]

_SCRIPT = """
import sys, tijepa
for call in ({calls},):
    try:
        print("no error", call())
    except tijepa.TijepaError as error:
        print(error)
"""


def complaints(run: Path, calls: Sequence[str]) -> list[str]:
    """The line that each call prints: its error, or that there was none. `RUN` stands for `run`."""
    lambdas = ", ".join(f"lambda: {call}" for call in calls)
    script = _SCRIPT.format(calls=lambdas).replace("RUN", "sys.argv[1]")
    command = [sys.executable, "-c", script, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()
