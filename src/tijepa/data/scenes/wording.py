"""From a scene to sentences: five wordings, each true and each naming every object.

Synonyms, order and syntax vary with the scene's key. Words are lower case; a comma or a colon
counts as a token of its own for most tokenizers, and none of the sentences exceeds 35 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import yaml

from tijepa.data.scenes.world import COLOURS, OPPOSITE, Draw, Scene, SceneObject, pick, stream

NUM_WORDINGS = 5

_WORDS = yaml.safe_load(resources.files("tijepa.data.scenes").joinpath("words.yaml").read_text())
_NUMBERS = {2: "two", 3: "three", 4: "four"}

_PLAIN = 0.75  # probability of the plain name where there are synonyms
_SIZED = 0.9  # probability that a sentence names the sizes


def captions(scene: Scene) -> tuple[str, ...]:
    """Five sentences, each true of `scene`, naming colour and shape of every object.

    Those of two and more objects also name one relation. No two sentences are the same.
    """
    return tuple(_sentence(scene, number) for number in range(NUM_WORDINGS))


def swap_hard_negative(scene: Scene, wording: int = 0) -> str:
    """Caption number `wording` of `scene` made false by exchanging two of its objects' colours.

    The words stay the same otherwise. Where subject and object of the relation share their colour,
    their shapes are exchanged; a single object gets another colour.
    """
    things = list(scene.objects)
    if scene.relation is None:
        names = tuple(COLOURS)
        other = names[(names.index(things[0].colour) + 1 + scene.key % 7) % len(names)]
        things[0] = replace(things[0], colour=other)
    else:
        i, j = scene.relation.subject, scene.relation.object
        first, second = things[i], things[j]
        if first.colour != second.colour:
            things[i] = replace(first, colour=second.colour)
            things[j] = replace(second, colour=first.colour)
        else:
            things[i] = replace(first, shape=second.shape)
            things[j] = replace(second, shape=first.shape)
    return _sentence(replace(scene, objects=tuple(things)), wording)


def invert_hard_negative(scene: Scene, wording: int = 0) -> str:
    """Caption number `wording` of `scene` made false by the opposite predicate.

    Only the words of the relation change. The scene must have a relation.
    """
    assert scene.relation is not None, "a scene of one object has no relation"
    predicate = OPPOSITE[scene.relation.predicate]
    return _sentence(replace(scene, relation=replace(scene.relation, predicate=predicate)), wording)


def exchange_hard_negative(scene: Scene, wording: int = 0) -> str:
    """Caption number `wording` of `scene` made false by exchanging subject and object.

    The words stay the same, in another order. The scene must have a relation.
    """
    assert scene.relation is not None, "a scene of one object has no relation"
    i, j = scene.relation.subject, scene.relation.object
    return _sentence(replace(scene, relation=replace(scene.relation, subject=j, object=i)), wording)


def phrase(thing: SceneObject) -> str:
    """Colour and shape in their plain words: 'a red circle'."""
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.shape}"


class _Speaker:
    """Says the parts of one sentence, each object with the same words whenever it is named.

    Words are drawn in advance, as many for each scene of a kind, so that exchanging attributes of
    objects leaves all other words of the sentence as they are.
    """

    def __init__(self, scene: Scene, number: int) -> None:
        self.draw: Draw = stream(scene.key, 2 + number)
        self._sized = self.draw() < _SIZED
        self._things = scene.objects
        self._nouns = [_word(self.draw, _WORDS["shapes"][thing.shape]) for thing in scene.objects]
        self._colours = [
            _word(self.draw, _WORDS["colours"][thing.colour]) for thing in scene.objects
        ]
        self._sizes = [_word(self.draw, _WORDS["sizes"][thing.size]) for thing in scene.objects]

    def named(self, index: int, article: bool = True) -> str:
        """'a small red circle'."""
        words = [self._colours[index], self._nouns[index]]
        if self._sized:
            words.insert(0, self._sizes[index])
        phrase = " ".join(words)
        if not article:
            return phrase
        return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"

    def again(self, index: int) -> str:
        """'the circle', or 'the red circle' where another object has that shape."""
        shape = self._things[index].shape
        if sum(thing.shape == shape for thing in self._things) > 1:
            return f"the {self._colours[index]} {self._nouns[index]}"
        return f"the {self._nouns[index]}"


def _word(draw: Draw, words: Sequence[str]) -> str:
    """The first word mostly; takes two numbers from the stream whatever the words are."""
    plain, which = draw() < _PLAIN, draw()
    if plain or len(words) == 1:
        return words[0]
    return words[1 + int(which * (len(words) - 1))]


def _sentence(scene: Scene, number: int) -> str:
    speaker = _Speaker(scene, number)
    if scene.relation is None:
        return _of_one(scene, speaker, number)
    return _of_several(scene, speaker, number)


def _of_one(scene: Scene, speaker: _Speaker, number: int) -> str:
    draw, thing = speaker.draw, speaker.named(0)
    place = _place(scene.objects[0], scene.image_size, draw)
    end = f" {place}" if place else ""
    if number == 0:
        return f"{thing}{end}"
    if number == 1:
        return f"{pick(draw, _WORDS['openings'])} {thing}{end}"
    if number == 2:
        return f"one object: {thing}{end}"
    if number == 3:
        return f"{pick(draw, _WORDS['there'])} {thing}{end}"
    return (
        f"{place}, {thing} {pick(draw, _WORDS['alone'])}"
        if place
        else f"{thing} {pick(draw, _WORDS['alone'])}"
    )


def _of_several(scene: Scene, speaker: _Speaker, number: int) -> str:
    assert scene.relation is not None
    draw, count = speaker.draw, len(scene.objects)
    i, j, predicate = scene.relation.subject, scene.relation.object, scene.relation.predicate
    others = [k for k in range(count) if k not in (i, j)]
    if draw() < 0.5:
        others.reverse()
    turned = draw() < 0.5
    if number == 2 or (number > 2 and turned):
        i, j, predicate = j, i, OPPOSITE[predicate]
    relation = pick(draw, _WORDS["predicates"][predicate])
    rest = _listed([_with_place(scene, speaker, k) for k in others])
    more = f" {pick(draw, _WORDS['more'])} {rest}" if rest else ""
    if number == 0:
        return f"{speaker.named(i)} {relation} {speaker.named(j)}{more}"
    if number == 1:
        opening = pick(draw, _WORDS["openings"])
        return f"{opening} {speaker.named(i)} {relation} {speaker.named(j)}{more}"
    if number == 2:
        first = f"{rest} and " if rest else ""
        verb = pick(draw, _WORDS["verbs"])
        return f"{first}{speaker.named(i)} {verb} {relation} {speaker.named(j)}"
    if number == 3:
        order = [i, j] if draw() < 0.5 else [j, i]
        order = order + others if draw() < 0.5 else others + order
        head = f"{_NUMBERS[count]} {pick(draw, _WORDS['nouns'])}"
        names = _listed([speaker.named(k, article=count < 4) for k in order])
        return f"{head}: {names}, {speaker.again(i)} is {relation} {speaker.again(j)}"
    pronoun = pick(
        draw, _WORDS["pronouns"][OPPOSITE[predicate]]
    )  # where the second is, from the first
    return (
        f"{pick(draw, _WORDS['there'])} {speaker.named(i)} and {pronoun} {speaker.named(j)}{more}"
    )


def _with_place(scene: Scene, speaker: _Speaker, index: int) -> str:
    name = speaker.named(index)
    place = _place(scene.objects[index], scene.image_size, speaker.draw)
    use = speaker.draw() < 0.4
    return f"{name} {place}" if place and use and len(scene.objects) < 4 else name


def _place(thing: SceneObject, image_size: int, draw: Draw) -> str:
    """Where in the image: 'in the top left corner', or '' where no phrase is clearly true."""
    x, y = thing.centre[0] / image_size, thing.centre[1] / image_size
    column = "left" if x < 0.36 else "right" if x > 0.64 else ""
    row = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    central = abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1
    choice = draw()
    if row and column:
        near = min(x, 1 - x) < 0.3 and min(y, 1 - y) < 0.3
        return f"in the {row} {column} {'corner' if near and choice < 0.7 else 'part'}"
    if row:
        return f"at the {row}" if choice < 0.5 else f"near the {row}"
    if column:
        return f"on the {column}" if choice < 0.5 else f"at the {column} side"
    return _WORDS["centre"][choice < 0.5] if central else ""


def _listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
