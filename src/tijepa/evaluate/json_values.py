"""Results that JSON can hold."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["without_nan"]


def without_nan(value: Any) -> Any:
    """Numbers that are not finite become None, at any depth: JSON has no word for them."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
