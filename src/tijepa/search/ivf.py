"""Approximate search beyond the size where computing every energy is quick: inverted lists.

Lists are clusters of points (see below). These are kept in 8 bits a number; the energies of the
candidates are computed again from the full rows. docs/log.md has what else was measured.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.errors import DataError, MissingExtraError
from tijepa.inference.embeddings import Form
from tijepa.io.files import replacing
from tijepa.search.exact import exact_search, rerank
from tijepa.search.vector_store import Side

EXACT_UP_TO = 100_000  # vectors; computing all energies of a query takes about 10 ms there

TARGET = 0.99  # recall at 10 that the number of probed lists is chosen for
_OVER = 4  # candidates for each answer, from which the exact energies choose
_QUERIES = 512  # half to choose by, half to measure on
_PER_LIST = 64  # training points
_BLOCK = 65_536
_K = 10


@dataclass(frozen=True)
class ListsCard:
    """`probes` of `lists` are searched; `recall_at_10` against exact search was measured on
    `queries` that the choice of `probes` had not seen."""

    lists: int
    probes: int
    recall_at_10: float
    queries: int


class Lists:
    """The inverted lists of one modality. Searching is safe from several threads."""

    def __init__(self, index: Any, card: ListsCard, form: Form) -> None:
        self.card = card
        self._faiss = need_faiss()
        self._index = index
        self._form = form

    @classmethod
    def build(
        cls,
        values: NDArray[np.floating],
        queries: NDArray[np.floating],
        form: Form,
        side: Side,
        seed: int = 0,
    ) -> Lists:
        """Cluster the searched parts of one side's rows (`searched`).

        `queries` are those of the other side's; some of them choose how many lists are probed.
        Without them the rows ask for each other.

        Raises `MissingExtraError` where faiss is not installed.
        """
        faiss = need_faiss()
        floor = point_floor(values, form, side)
        generator = np.random.default_rng(seed)
        count = max(1, min(round(4 * math.sqrt(len(values))), len(values) // 8))
        some = np.sort(
            generator.choice(len(values), min(_PER_LIST * count, len(values)), replace=False)
        )
        sample = as_points(values[some], form, side, floor)
        width = sample.shape[1]
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(width), width, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2
        )
        index.cp.niter, index.cp.seed = 10, seed + 1
        index.cp.min_points_per_centroid = 1
        index.train(sample)
        for start in range(0, len(values), _BLOCK):
            index.add(as_points(values[start : start + _BLOCK], form, side, floor))
        lists = cls(index, ListsCard(count, 1, 0.0, 0), form)
        if not len(queries):
            queries = as_queries(values[:: max(1, len(values) // _QUERIES)], form)
        asked = generator.permutation(len(queries))[:_QUERIES]
        lists.card = lists._choose(
            values, np.asarray(queries[np.sort(asked)], np.float32), generator
        )
        return lists

    def save(self, path: Path) -> None:
        """Write the lists; the card is the caller's."""
        try:
            with replacing(path) as temporary:
                self._faiss.write_index(self._index, str(temporary))
        except (OSError, RuntimeError):
            raise DataError(
                f"cannot write {path}: free some space and give the same command again"
            ) from None

    @classmethod
    def open(cls, path: Path, card: ListsCard, form: Form, count: int) -> Lists:
        """Read what `save` wrote of `count` rows; `DataError` where it is damaged."""
        faiss = need_faiss()
        try:
            index = faiss.read_index(str(path))
        except RuntimeError:
            index = None
        if index is None or index.ntotal != count or index.nlist != card.lists:
            raise DataError(f"{path} is missing or damaged: delete {path.parent} and index anew")
        return cls(index, card, form)

    def search(
        self,
        values: NDArray[np.floating],
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        probes: int | None = None,
    ) -> NDArray[np.int64]:
        """Positions (q, c) of candidates for the k lowest energies, -1 where there are no more.

        Only those in `allowed` where it is given. At least k are found where they exist: the rarer
        they are the more lists are probed, from `probes` on.
        """
        faiss = self._faiss
        points = as_asked(queries, self._form)
        total = len(values)
        count = total if allowed is None else len(allowed)
        if count == 0:
            return np.empty((len(queries), 0), np.int64)
        probes = probes or self.card.probes
        selector = None
        if allowed is not None:
            mask = np.zeros(total, bool)
            mask[allowed] = True
            bits = np.packbits(mask, bitorder="little")  # alive as long as the selector
            selector = faiss.IDSelectorBitmap(total, faiss.swig_ptr(bits))
            probes = math.ceil(probes * total / count)
        wanted = min(k, count)
        while True:
            probes = min(probes, self.card.lists)
            how = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
            found: NDArray[np.int64] = self._index.search(
                points, min(_OVER * k, count), params=how
            )[1]
            if probes == self.card.lists or bool((found[:, :wanted] >= 0).all()):
                return found
            probes *= 2

    def _choose(
        self,
        values: NDArray[np.floating],
        queries: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> ListsCard:
        """The fewest lists, in powers of two, that reach the target on half of the queries."""
        k = min(_K, len(values))
        exact = exact_search(values, queries, k)
        half = generator.permutation(len(queries))
        choose, measure = half[::2], half[1::2] if len(half) > 1 else half

        def recall(some: NDArray[np.int64], probes: int) -> float:
            candidates = self.search(values, queries[some], k, probes=probes)
            found = rerank(values, queries[some], candidates, k)
            # by score, so that one of two equal images counts for the other
            return float((found.scores >= exact.scores[some, -1:] - 1e-9).mean())

        probes = 1
        while probes < self.card.lists and recall(choose, probes) < TARGET:
            probes *= 2
        probes = min(probes, self.card.lists)
        return ListsCard(self.card.lists, probes, recall(measure, probes), len(measure))


def need_faiss() -> Any:
    """The module; `MissingExtraError` where it is not installed."""
    with warnings.catch_warnings():
        # its SWIG types lack __module__, of which later Pythons warn
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            import faiss
        except ImportError:
            raise MissingExtraError("faiss-cpu", "search") from None
    return faiss


# What of joint embeddings a search goes by, and as points whose squared distance is the energy.
#
# A calibrated row holds two (`inference/calibration.py`): among images the first half of it is
# searched, √½ [w ; −a ; 1] of an image by √½ [w ; 1 ; −c] of a text, among texts the second half.
# Minus twice their inner product is the energy,
#
#     E = ½ ‖w_i − w_t‖² + (a − ½ ‖w_i‖²) + terms of the query alone,
#
# so with r = a − ½ ‖w_i‖² the point [√½ w_i ; √(r − r_min)] has the squared distance E + constant
# from the query [√½ w_t ; 0]: the lowest energies are nearest neighbours, and clusters of points
# lie where queries do. Rows of the other forms are points as they are.


def searched(values: NDArray[np.floating], form: Form, side: Side) -> NDArray[np.floating]:
    """The part of rows, of either modality, by which those of `side` are found; a view."""
    if form != "calibrated":
        return values
    half = values.shape[1] // 2
    return values[:, :half] if side == "images" else values[:, half:]


def _rest(part: NDArray[np.floating], side: Side) -> NDArray[np.float32]:
    """r = a − ½ ‖w‖² of searched parts of rows."""
    part = np.asarray(part, np.float32)
    own = part[:, -2] if side == "images" else part[:, -1]
    squares: NDArray[np.float32] = np.square(part[:, :-2]).sum(axis=1)
    return -math.sqrt(2) * own - squares


def point_floor(part: NDArray[np.floating], form: Form, side: Side) -> float:
    """r_min of all rows, which `as_points` needs."""
    if form != "calibrated":
        return 0.0
    return min(
        float(_rest(part[start : start + _BLOCK], side).min())
        for start in range(0, len(part), _BLOCK)
    )


def as_points(
    part: NDArray[np.floating], form: Form, side: Side, floor: float
) -> NDArray[np.float32]:
    """The points of searched parts of one side's rows."""
    if form != "calibrated":
        return np.ascontiguousarray(part, np.float32)
    extra = np.sqrt(np.maximum(_rest(part, side) - floor, 0))
    return np.concatenate([part[:, :-2], extra[:, None]], axis=1, dtype=np.float32)


def as_asked(queries: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """The points that searched parts of the other side's rows ask from."""
    if form != "calibrated":
        return np.ascontiguousarray(queries)
    return np.concatenate([queries[:, :-2], np.zeros_like(queries[:, :1])], axis=1)


def as_queries(part: NDArray[np.floating], form: Form) -> NDArray[np.float32]:
    """Searched parts of one side as if they were of the other, to ask for each other."""
    some = np.array(part, np.float32)
    if form == "calibrated":
        some[:, -2:] = some[:, [-1, -2]]
    return some
