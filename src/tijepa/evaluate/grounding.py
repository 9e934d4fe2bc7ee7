"""The pointing game on scenes: does the energy map of "a red circle" point at the red circle?

Every object of a scene is asked for by colour and shape in their plain words. A hit is a map whose
cell of lowest energy has its centre inside the object's box, border included. Several cells of
equal lowest energy are a hit only if all of their centres lie inside; a map that holds a value that
is not finite is a miss. Chance is the mean share of cells whose centre lies inside the box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.data.images import prepare
from tijepa.data.scenes import Scene, Scenes
from tijepa.data.scenes.wording import (
    NUM_WORDINGS,
    exchange_hard_negative,
    invert_hard_negative,
    phrase,
    swap_hard_negative,
)
from tijepa.errors import DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.results import Accuracy, Pointing
from tijepa.model.saving import ModelCard

MapsOf = Callable[[Tensor, Sequence[str]], Tensor]


def centres_inside(
    box: Float[Tensor, "q 4"], grid: int, image_size: int
) -> Bool[Tensor, "q {grid} {grid}"]:
    """Which cells (row, column) have their centre in the box (x0, y0, x1, y1), in pixels."""
    centre = (torch.arange(grid, dtype=torch.float64) + 0.5) * image_size / grid
    x0, y0, x1, y1 = box.double()[:, :, None].unbind(dim=1)
    across = (centre >= x0) & (centre <= x1)
    down = (centre >= y0) & (centre <= y1)
    return down[:, :, None] & across[:, None, :]


def hits(energy: Float[Tensor, "q g g"], inside: Bool[Tensor, "q g g"]) -> Bool[Tensor, " q"]:
    """Whether each map's lowest cells all lie inside, and all its values are finite."""
    flat = energy.flatten(1)
    lowest = flat == flat.min(dim=1, keepdim=True).values
    finite = torch.isfinite(flat).all(dim=1)
    return finite & (inside.flatten(1) | ~lowest).all(dim=1)


def pointing(
    energy: Float[Tensor, "q g g"], box: Float[Tensor, "q 4"], image_size: int
) -> Pointing:
    """The game's score of q maps and the boxes, in pixels, of what they should point at."""
    assert len(energy) > 0
    grid = energy.shape[1]
    inside = centres_inside(box, grid, image_size)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / image_size**2
    return Pointing(
        accuracy=float(hits(energy, inside).double().mean()),
        chance=float(inside.double().mean()),
        box_area=float(area.double().mean()),
        reachable=float(inside.flatten(1).any(dim=1).double().mean()),
        queries=len(energy),
        grid=grid,
    )


# words that hardly an image is of: what the map of other words has in common with theirs, the image
# alone has made
UNRELATED = (
    "quarterly revenue spreadsheet",
    "a circuit board under a microscope",
    "sushi platter",
    "lorem ipsum dolor sit amet",
    "a stack of pancakes with syrup",
    "galaxy in deep space",
    "xyzzy",
    "chest x-ray of a patient",
)
FLAT_FROM = 0.8  # sameness from which on a map may tell nothing of its own words


def sameness(energy: Float[Tensor, "g g"], unrelated: Float[Tensor, "u g g"]) -> float:
    """Correlation of a map with the mean map of u unrelated texts over the same image, −1 to 1.

    1 where either does not vary at all: then the map is flat in the plain sense.
    """
    maps = torch.stack([energy, unrelated.mean(dim=0)]).flatten(1).double()
    own, other = maps - maps.mean(dim=1, keepdim=True)
    length = float(own.norm() * other.norm())
    return float(own @ other) / length if length > 1e-12 else 1.0


def pointing_on_scenes(
    embedder: Embedder, scenes: Scenes, items: int, maps_of: MapsOf | None = None
) -> Pointing:
    """Play the game for every object of the first `items` scenes.

    `maps_of` gives the maps (t, g, g) of one normalised image and t phrases; by default
    `Embedder.energy_maps_of_input`. `scenes` must have the model's image size.
    """
    card = embedder.card
    maps_of = maps_of or embedder.energy_maps_of_input
    maps: list[Tensor] = []
    boxes: list[tuple[float, float, float, float]] = []
    for index in range(min(items, len(scenes))):
        things = scenes.scene(index).objects
        pixels = scenes.image(index, card.image_size)
        assert pixels is not None
        image = prepare(pixels, card.image_size, card.mean, card.std)
        maps.append(maps_of(image, [phrase(thing) for thing in things]))
        boxes += [thing.box for thing in things]
    return pointing(torch.cat(maps), torch.tensor(boxes), card.image_size)


# Hard negatives on scenes: does the true caption have less energy than the same words made false?
#
# Three ways of making a caption false, each on the same scenes of two to four objects (a scene of
# one has nothing to exchange):
#
# - `attributes`: two objects exchange their colours (or shapes);
# - `predicate`: the relation becomes its opposite;
# - `exchange`: subject and object of the relation change places, the words stay the same.
#
# Chance is one half. A tie, or an energy that is not a number, counts as wrong: a model that has
# collapsed gets 0, and one that reads a caption as a bag of words gets 0 by `exchange`.


KINDS: dict[str, Callable[[Scene, int], str]] = {
    "attributes": swap_hard_negative,
    "predicate": invert_hard_negative,
    "exchange": exchange_hard_negative,
}


def accuracy(true: Float[Tensor, " n"], false: Float[Tensor, " n"]) -> Accuracy:
    """Of energies of n images, each with its true and its false caption; of none it is 0."""
    return Accuracy(float((true < false).double().sum()) / max(1, len(true)), len(true))


def hard_negatives(embedder: Embedder, scenes: Scenes, items: int) -> dict[str, Accuracy]:
    """The accuracy for each of `KINDS` on the first `items` scenes, by the model's default energy.

    Scenes of one object are left out. Scene k is asked with its wording number k mod 5.
    """
    inputs, texts = _asked(scenes, embedder.card, items)
    each = 1 + len(KINDS)
    e = embedder.embeddings_of_inputs(inputs, texts)
    energy = torch.cat(
        [
            embedder.energy_of(
                e.images(slice(row, row + 1)).texts(slice(each * row, each * (row + 1))),
                embedder.default_form,
            )
            for row in range(len(inputs))
        ]
    )
    return _accuracies(energy)


def fine_hard_negatives(
    embedder: Embedder, scenes: Scenes, items: int
) -> dict[str, dict[str, Accuracy]]:
    """The same by the `fine` energy, and by the wording alone: `without_image`, which is to guess.

    Without the image a caption's energy is how unlikely each word is by the other words.
    """
    inputs, texts = _asked(scenes, embedder.card, items)
    each, scorer = 1 + len(KINDS), embedder.fine
    rows = [texts[start : start + each] for start in range(0, len(texts), each)]
    fine = [
        scorer.energy_of_inputs(image[None], own) for image, own in zip(inputs, rows, strict=True)
    ]
    alone = scorer.wording(texts).view(-1, each)
    return {"fine": _accuracies(torch.cat(fine)), "without_image": _accuracies(alone)}


def _asked(
    scenes: Scenes, card: ModelCard, items: int
) -> tuple[Float[Tensor, "n 3 s s"], list[str]]:
    """Images, and of each its true caption, then what each kind makes of it."""
    inputs: list[Tensor] = []
    texts: list[str] = []
    for row in range(min(items, len(scenes))):
        scene, wording = scenes.scene(row), row % NUM_WORDINGS
        if scene.relation is None:
            continue
        pixels = scenes.image(row, card.image_size)
        assert pixels is not None
        inputs.append(prepare(pixels, card.image_size, card.mean, card.std))
        texts.append(scenes.captions(row)[wording])
        texts += [make(scene, wording) for make in KINDS.values()]
    if not inputs:
        raise DataError(f"none of {items} scenes has two objects: ask more of them")
    return torch.stack(inputs), texts


def _accuracies(energy: Float[Tensor, "n k"]) -> dict[str, Accuracy]:
    """Of each kind, from the energies of the true captions (column 0) and of the false ones."""
    return {name: accuracy(energy[:, 0], energy[:, number]) for number, name in enumerate(KINDS, 1)}
