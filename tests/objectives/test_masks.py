"""Blocks and spans: complete, disjoint, symmetric, reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.errors import ConfigError
from tijepa.model.encoded import TokenSubset
from tijepa.objectives.masks import BlockMasks, Masks, SpanMasks, _padded

GRIDS = (2, 3, 4, 7, 8)
SYMMETRIC = (2 / 3, 3 / 2)


def chosen(visible: TokenSubset, places: int) -> np.ndarray:
    """Index rows and masks back to boolean rows; no place may occur twice."""
    rows = np.zeros((len(visible.index), places), dtype=int)
    for row, index, mask in zip(rows, visible.index.numpy(), visible.mask.numpy(), strict=True):
        np.add.at(row, index[mask], 1)
    assert rows.max(initial=0) <= 1
    return rows.astype(bool)


def blocks(grid: int, **changed: object) -> BlockMasks:
    arguments = {
        "blocks": 4,
        "scale": (0.15, 0.2),
        "aspect": SYMMETRIC,
        "context_scale": (0.85, 1.0),
        **changed,
    }
    return BlockMasks(grid=grid, **arguments)


def assert_equal_frequencies(a: np.ndarray, b: np.ndarray, draws: int) -> None:
    """Two frequencies of one probability differ by less than 5 standard errors.

    They may be correlated (both come from the same draws), at worst oppositely: their difference
    has a variance of at most 4 p (1 − p) / draws.
    """
    p = (a + b) / 2
    assert (np.abs(a - b) <= 5 * np.sqrt(4 * p * (1 - p) / draws) + 1e-9).all()


def test_target_blocks_are_rectangles_whose_union_is_the_target() -> None:
    """Also of a part of the rows, and every row has every block."""
    masks = blocks(7, blocks=3).draw(20, np.random.default_rng(1))
    assert len(masks.blocks) == 3
    for part, rows in ((masks, slice(0, 20)), (masks.part(5, 9), slice(5, 9))):
        single = [chosen(block, 49).reshape(-1, 7, 7) for block in part.blocks]
        for canvas in np.concatenate(single):
            y, x = np.nonzero(canvas)
            assert canvas[y.min() : y.max() + 1, x.min() : x.max() + 1].all()
        union = np.any(single, axis=0).reshape(-1, 49)
        assert (union == chosen(masks.target, 49)[rows]).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_marginals_are_complete_and_symmetric(grid: int) -> None:
    """Under both flips and, as the aspect range is symmetric in the logarithm, transposition."""
    draws = 1500
    masks = blocks(grid).draw(draws, np.random.default_rng(grid))
    for part in (masks.target, masks.context):
        frequency = chosen(part, grid**2).mean(axis=0).reshape(grid, grid)
        assert (frequency > 0).all(), "a patch that is never chosen"
        for turned in (frequency[::-1], frequency[:, ::-1], frequency.T):
            assert_equal_frequencies(frequency, turned, draws)


@given(
    grid=st.integers(2, 16),
    count=st.integers(1, 3),
    number=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=50)
def test_context_and_target_are_disjoint_and_never_empty(
    grid: int, count: int, number: int, seed: int
) -> None:
    drawn = blocks(grid, blocks=number).draw(count, np.random.default_rng(seed))
    target, context = chosen(drawn.target, grid**2), chosen(drawn.context, grid**2)
    assert not (target & context).any()
    assert target.any(axis=1).all()
    assert context.any(axis=1).all()


def rectangles(grid: int, draws: int, **changed: object) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths of single target blocks, checked to be full rectangles."""
    drawn = blocks(grid, blocks=1, **changed).draw(draws, np.random.default_rng(0))
    canvas = chosen(drawn.target, grid**2).reshape(draws, grid, grid)
    heights, widths = canvas.any(axis=2).sum(axis=1), canvas.any(axis=1).sum(axis=1)
    assert np.array_equal(canvas.sum(axis=(1, 2)), heights * widths)
    return heights, widths


@pytest.mark.parametrize("grid", [8, 14])
@pytest.mark.parametrize("aspect", [(0.5, 2.0), (0.75, 1.5)])
def test_area_and_aspect_of_a_block_are_independent(grid: int, aspect: tuple[float, float]) -> None:
    """Uncorrelated within 5/√n, mean area 0.2 of the grid, mean log aspect that of its range."""
    draws = 2500
    heights, widths = rectangles(grid, draws, scale=(0.1, 0.3), aspect=aspect)
    area, ratio = heights * widths / grid**2, np.log(heights / widths)
    assert abs(np.corrcoef(area, ratio)[0, 1]) < 5 / np.sqrt(draws)
    assert area.mean() == pytest.approx(0.2, abs=5 * area.std() / np.sqrt(draws))
    middle = np.log(aspect).mean()
    assert ratio.mean() == pytest.approx(middle, abs=5 * ratio.std() / np.sqrt(draws) + 0.01)


def test_a_full_context_block_shows_everything_that_is_not_hidden() -> None:
    drawn = blocks(6, context_scale=(1.0, 1.0)).draw(20, np.random.default_rng(0))
    assert np.array_equal(chosen(drawn.context, 36), ~chosen(drawn.target, 36))


def test_sides_are_rounded_to_the_right_mean_on_coarse_grids() -> None:
    """A square of a quarter of a 5 × 5 grid has sides of 2.5 patches: 2 or 3, equally often."""
    heights, widths = rectangles(5, 2000, scale=(0.25, 0.25), aspect=(1.0, 1.0))
    assert set(heights) == set(widths) == {2, 3}
    assert heights.mean() == pytest.approx(2.5, abs=0.06)
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.12


@pytest.mark.parametrize(("grid", "scale"), [(1, (0.15, 0.2)), (4, (1.0, 1.0))])
def test_masks_that_leave_no_context_are_an_error_and_not_an_endless_search(
    grid: int, scale: tuple[float, float]
) -> None:
    masks = blocks(grid, blocks=2, scale=scale, aspect=(1.0, 1.0))
    with pytest.raises(ConfigError, match=f"grid of {grid} x {grid} patches; lower") as error:
        masks.draw(1, np.random.default_rng(0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["blocks", "spans"])
def test_masks_are_a_function_of_the_generator(kind: str) -> None:
    def draw(seed: int) -> Masks:
        rng = np.random.default_rng(seed)
        if kind == "blocks":
            return blocks(5).draw(6, rng)
        return SpanMasks(hidden=0.4, span=2).draw([9, 14, 6], rng)

    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first.target.index, again.target.index)
    assert torch.equal(first.context.index, again.context.index)
    assert first.target.index.shape != other.target.index.shape or not torch.equal(
        first.target.index, other.target.index
    )


def test_a_part_of_the_masks_is_those_of_its_rows() -> None:
    drawn = blocks(5).draw(6, np.random.default_rng(0))
    part = drawn.part(2, 4)
    assert np.array_equal(chosen(part.target, 25), chosen(drawn.target, 25)[2:4])
    assert np.array_equal(chosen(part.context, 25), chosen(drawn.context, 25)[2:4])
    moved = drawn.to(torch.device("cpu"))
    assert torch.equal(moved.target.index, drawn.target.index)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    hidden=st.floats(0.01, 0.99),
    span=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=80)
def test_spans_hide_the_exact_number_of_words_and_never_the_first_token(
    lengths: list[int], hidden: float, span: int, seed: int
) -> None:
    drawn = SpanMasks(hidden=hidden, span=span).draw(lengths, np.random.default_rng(seed))
    target, context = chosen(drawn.target, 60), chosen(drawn.context, 60)
    for row, length in enumerate(lengths):
        words = length - 1
        expected = min(words - 1, max(1, round(hidden * words))) if words > 1 else 0
        assert target[row].sum() == expected
        assert not target[row, 0]
        assert context[row, 0]
        assert np.array_equal(target[row] | context[row], np.arange(60) < length)
        assert not (target[row] & context[row]).any()
        starts = np.diff(target[row].astype(int), prepend=0) == 1
        assert starts.sum() <= max(1, round(expected / span))


@pytest.mark.parametrize(
    ("words", "hidden", "count"),
    [(10, 0.4, 4), (10, 0.01, 1), (10, 0.99, 9), (2, 0.9, 1), (1, 0.5, 0), (0, 0.5, 0)],
)
def test_hidden_words_by_hand(words: int, hidden: float, count: int) -> None:
    """h = round(hidden · n), at least one hidden, at least one shown, none of fewer than two."""
    drawn = SpanMasks(hidden=hidden, span=3).draw([words + 1], np.random.default_rng(0))
    assert int(drawn.target.mask.sum()) == count
    assert int(drawn.context.mask.sum()) == words + 1 - count


def test_the_number_of_spans_is_the_hidden_words_over_the_span_length() -> None:
    """Of 20 words half are hidden, in 10 / 5 = 2 spans that never touch."""
    drawn = SpanMasks(hidden=0.5, span=5).draw([21] * 200, np.random.default_rng(0))
    target = chosen(drawn.target, 21).astype(int)
    assert set((np.diff(target, axis=1, prepend=0) == 1).sum(axis=1)) == {2}


def test_all_arrangements_of_spans_are_equally_likely() -> None:
    """Two single hidden words among four: only 1+3, 1+4 and 2+4 do not touch, each with 1/3."""
    draws = 3000
    drawn = SpanMasks(hidden=0.5, span=1).draw([5] * draws, np.random.default_rng(0))
    arrangement, count = np.unique(drawn.target.index.numpy(), axis=0, return_counts=True)
    assert arrangement.tolist() == [[1, 3], [1, 4], [2, 4]]
    assert (np.abs(count / draws - 1 / 3) < 5 * np.sqrt(2 / 9 / draws)).all()


@pytest.mark.parametrize(("words", "hidden", "span"), [(8, 0.4, 3), (9, 0.7, 2), (5, 0.4, 1)])
def test_word_marginals_are_complete_and_symmetric_under_reversal(
    words: int, hidden: float, span: int
) -> None:
    draws = 3000
    masks = SpanMasks(hidden=hidden, span=span)
    drawn = masks.draw([words + 1] * draws, np.random.default_rng(0))
    frequency = chosen(drawn.target, words + 1).mean(axis=0)[1:]
    assert (frequency > 0).all()
    assert (frequency < 1).all()
    assert_equal_frequencies(frequency, frequency[::-1], draws)


@given(
    rows=st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
@settings(deadline=None, max_examples=60)
def test_padding_indices_is_undone_by_their_mask(rows: list[list[bool]]) -> None:
    table = np.array(rows)
    padded = _padded(table)
    assert np.array_equal(chosen(padded, table.shape[1]), table)
    assert padded.index.shape[1] == max(1, table.sum(axis=1).max())
    assert not padded.index[~padded.mask].any()
    for index, mask in zip(padded.index, padded.mask, strict=True):
        assert torch.equal(index[mask], index[mask].sort().values)
