"""What counts as right where captions repeat, and where guard and retrieval agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import collapse
import unpaired
from figures import Cell, draw_matrix
from grid.job import Job
from grid.scenes import keep_scenes
from repeating import CAPTIONS, caption_of, caption_to_image, image_to_caption
from tijepa.data.scenes import Scenes
from tijepa.data.scenes.world import holds


def test_each_of_24_captions_fits_the_scene_it_belongs_to() -> None:
    """The relation that the caption names holds between the boxes of the shapes it names."""
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 24
    scenes = Scenes("train", 1500)
    found = [(s, c) for s in map(scenes.scene, range(1500)) if (c := caption_of(s)) is not None]
    assert {caption for _, caption in found} == set(CAPTIONS)
    for scene, caption in found:
        box = {thing.shape: thing.box for thing in scene.objects}
        words = caption.split()
        predicate = " ".join(words[2:-2])
        assert holds(predicate, box[words[1]], box[words[-1]]), caption


def test_every_image_of_the_same_caption_is_right() -> None:
    """Captions 0, 0, 1 over three images. Caption 0 finds image 1, one of its two; caption 1
    finds image 0, which is not its own. Images 0 and 1 find their caption, 2 ties."""
    label = torch.tensor([0, 0, 1])
    energy = torch.tensor([[0.5, 0.6], [0.1, 0.9], [0.8, 0.8]])
    assert image_to_caption(energy, label) == pytest.approx(2 / 3)
    assert caption_to_image(energy, label, gallery=3) == pytest.approx(1 / 2)


def test_galleries_ask_separately_and_a_caption_that_fits_all_does_not_ask() -> None:
    """Galleries (0, 1) and (2,): in the second only caption 1 occurs, and it fits everything."""
    label = torch.tensor([0, 1, 1])
    energy = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.8, 0.2]])
    assert caption_to_image(energy, label, gallery=2) == 1.0


def test_energies_that_are_not_numbers_are_never_right() -> None:
    energy = torch.full((2, 2), float("nan"))
    label = torch.tensor([0, 1])
    assert image_to_caption(energy, label) == 0.0
    assert caption_to_image(energy, label, gallery=2) == 0.0


@pytest.mark.parametrize(
    ("recall", "said"), [(0.5, "fine"), (0.25, "fine"), (0.24, "poor"), (0.019, "lost")]
)
def test_retrieval_is_judged_by_the_best_of_its_batch_size_and_by_chance(
    recall: float, said: str
) -> None:
    """Best 50 %, chance 0.2 %: fine from 25 %, lost below 2 %."""
    assert collapse.judged(recall, 0.5, 0.002) == said


def test_agreement_counts_the_unnoticed_and_the_false_alarms() -> None:
    """Of five, healthy and fine, collapsed and lost agree; the other three do not."""
    pairs = [
        ("healthy", "fine"),
        ("collapsed", "lost"),
        ("healthy", "lost"),
        ("collapsed", "fine"),
        ("healthy", "poor"),
    ]
    found = collapse.agreement([{"verdict": v, "retrieval": r} for v, r in pairs])
    assert found["agree"] == pytest.approx(2 / 5)
    assert (found["unnoticed"], found["false_alarms"]) == (1, 1)
    assert found["table"]["healthy"] == {"fine": 1, "poor": 1, "lost": 1}


def test_a_third_of_the_mixed_items_are_pairs_and_no_other_pair_is_left(tmp_path: Path) -> None:
    """40 scenes: 4 pairs, repeated to 40 items, and 40 images and 40 texts alone."""
    keep_scenes(tmp_path, items=40, held_out=4)
    items = unpaired.view(tmp_path, "mixed").items
    pairs = items[(items >= 0).all(axis=1)]
    assert len(pairs) == 40
    assert len(items) == 120
    assert {tuple(row) for row in pairs.tolist()} == {(k, k) for k in range(4)}
    assert sorted(items[items[:, 1] < 0][:, 0].tolist()) == list(range(40))
    assert unpaired.view(tmp_path, "alone").items.tolist() == [[k, k] for k in range(4)]


def test_every_item_without_partner_gets_pseudo_pairs_and_images_count_the_same(
    tmp_path: Path,
) -> None:
    """40 scenes: 4 pairs, 12 times each; 36 images of one text or more, and all 36 texts."""
    keep_scenes(tmp_path, items=40, held_out=4)
    items = unpaired.matched(tmp_path, Job("tijepa", 4, 1e-3, 0, 2, "alone")).items
    assert items[:48].tolist() == [[k, k] for k in range(4) for _ in range(12)]
    images, texts = items[48:].T
    assert set(images.tolist()) == set(texts.tolist()) == set(range(4, 40))
    pairs = unpaired.spread(
        np.array([[0, 0], [1, 5], [1, 6], [1, 7], *([2, k] for k in range(30))])
    )
    assert np.bincount(pairs[:, 0]).tolist() == [12, 12, 30]


def test_a_matrix_shows_every_cell_and_frames_the_marked_one(tmp_path: Path) -> None:
    path = tmp_path / "matrix.svg"
    cells = {("none", "τ 0"): Cell("#a40e26", "0.2 %", "lost", mark=True)}
    draw_matrix(
        path,
        label="a matrix",
        panels={"batch 8": cells},
        rows=("none",),
        columns=("τ 0", "τ 0.9"),
        legend={"collapsed": "#a40e26"},
        note="a note",
    )
    drawn = path.read_text()
    for text in ("batch 8", "none", "τ 0.9", "0.2 %", "lost", "collapsed", "a note"):
        assert f">{text}</text>" in drawn
    assert drawn.count("stroke-width=") == 1
