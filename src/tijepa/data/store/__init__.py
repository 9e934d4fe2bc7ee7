"""The pair store: checked items in one Lance dataset, read by row numbers.

Lance is not safe to use in a process forked after it was used; threads and spawned processes are.
"""

from __future__ import annotations
