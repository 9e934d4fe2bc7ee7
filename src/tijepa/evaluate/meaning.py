"""What a model knows of the parts of a scene: the pointing game and hard negatives, together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tijepa.data.pairs import PairSource
from tijepa.data.scenes import Scenes
from tijepa.embedder import Embedder
from tijepa.errors import DataError
from tijepa.evaluate.formatting import percent
from tijepa.evaluate.hard_negatives import hard_negatives
from tijepa.evaluate.pointing import pointing_on_scenes
from tijepa.evaluate.run_record import part, value

__all__ = ["meaning", "meaning_lines"]

POINTED = 100  # scenes of the pointing game, each of which takes 64 pictures to encode


def meaning(embedder: Embedder, source: PairSource, items: int) -> dict[str, Any]:
    """`pointing` on the first 100 of `items` scenes, `hard_negatives` on all of them.

    Raises `DataError` where `source` is not scenes, for only they have boxes and relations.
    """
    if not isinstance(source, Scenes):
        raise DataError(
            "--meaning needs the ground truth of scenes, and this source has none: leave it out,"
            " or give --data scenes"
        )
    return {
        "pointing": pointing_on_scenes(embedder, source, min(POINTED, items)).to_dict(),
        "hard_negatives": {
            kind: found.to_dict() for kind, found in hard_negatives(embedder, source, items).items()
        },
    }


def meaning_lines(results: Mapping[str, Any]) -> list[str]:
    """The same in words, one line each; none where `results` hold neither."""
    lines = []
    game = part(results, "pointing")
    if game:
        lines.append(
            f"pointing {percent(value(game, 'accuracy'))} (chance"
            f" {percent(value(game, 'chance'))}) of {int(value(game, 'queries'))} objects"
        )
    lines += [
        f"true caption below one with false {kind}: {percent(value(found, 'accuracy'))} of"
        f" {int(value(found, 'pairs'))} (chance 50 %)"
        for kind, found in part(results, "hard_negatives").items()
    ]
    return lines
