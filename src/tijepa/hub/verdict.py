"""The verdict on a run that readers see first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["shown_verdict", "trouble_in_training"]


def shown_verdict(
    collapse: Mapping[str, Any], health: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Verdict and reason of the collapse readings; of the guard where those judge nothing.

    An objective that trains no pooled embedding (the paper's) is judged by what it fuses. None
    where nothing is recorded.
    """
    chosen = collapse
    if collapse.get("verdict") == "unjudged" and health:
        chosen = health
    verdict, reason = chosen.get("verdict"), chosen.get("reason")
    return (
        verdict if isinstance(verdict, str) else None,
        reason if isinstance(reason, str) else None,
    )


def trouble_in_training(
    collapse: Mapping[str, Any], health: Mapping[str, Any] | None
) -> str | None:
    """How the run ended by the guard's verdict, where that is trouble and not shown already.

    The model that was kept is from before it.
    """
    ended = (health or {}).get("verdict")
    if collapse.get("verdict") == "unjudged" or ended not in ("degrading", "collapsed"):
        return None
    return str(ended)
