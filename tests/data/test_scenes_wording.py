"""Every sentence is true of its scene, names every object, and keeps to a small vocabulary."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tijepa.data.scenes import Scene, Scenes
from tijepa.data.scenes.wording import (
    exchange_hard_negative,
    invert_hard_negative,
    phrase,
    swap_hard_negative,
)
from tijepa.data.scenes.world import holds

# Written out here a second time on purpose: the test reads sentences with its own dictionary.
COLOURS = {"scarlet": "red", "golden": "yellow", "violet": "purple"} | {
    name: name for name in ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
}
SHAPES = {
    "disc": "circle",
    "box": "square",
    "rhombus": "diamond",
    "plus": "cross",
    "hoop": "ring",
    "crescent": "moon",
} | {
    name: name
    for name in ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "moon")
}
SIZES = {
    "small": "small",
    "little": "small",
    "tiny": "small",
    "medium": "medium",
    "large": "large",
    "big": "large",
    "huge": "large",
}
RELATIONS = {
    "left of": r"left of|to the left of|on the left of",
    "right of": r"right of|to the right of|on the right of",
    "above": r"above|over|higher than",
    "below": r"below|under|lower than",
}
TURNED = {
    "right of": r"to its left|on its left side",
    "left of": r"to its right|on its right side",
    "below": r"above it|over it",
    "above": r"below it|under it",
}
THING = re.compile(
    rf"(?P<article>an? )?(?:(?P<size>{'|'.join(SIZES)}) )?"
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})\b"
)
PLACE = re.compile(
    r"in the (?P<row>top|bottom) (?P<column>left|right) (?:corner|part)"
    r"|(?:at|near) the (?P<only_row>top|bottom)\b"
    r"|(?:on the|at the) (?P<only_column>left|right)(?! of)(?: side)?"
    r"|in the (?P<middle>middle|centre)"
)

items = st.tuples(
    st.sampled_from(["train", "validation", "novel"]), st.integers(min_value=0, max_value=99_999)
)


def scene_and_captions(item: tuple[str, int]) -> tuple[Scene, tuple[str, ...]]:
    source = Scenes(item[0], 100_000)
    return source.scene(item[1]), source.captions(item[1])


def named(caption: str) -> list[tuple[str | None, str, str]]:
    """(size, colour, shape) of every 'a small red circle'; not of 'the red circle'."""
    listed = re.sub(r"\bthe [a-z]+ (?=" + "|".join(SHAPES) + r")", "", caption)
    return [
        (SIZES.get(match["size"]), COLOURS[match["colour"]], SHAPES[match["shape"]])
        for match in THING.finditer(listed)
    ]


def look_of(words: str) -> tuple[str | None, str]:
    """(colour, shape) of 'a small red circle', 'the red circle' or 'the circle'."""
    parts = words.split()
    colours = [COLOURS[word] for word in parts if word in COLOURS]
    return (colours[0] if colours else None), SHAPES[parts[-1]]


def relations(caption: str) -> list[tuple[tuple[str | None, str], str, tuple[str | None, str]]]:
    """(first, predicate, second) for every relation in the sentence."""
    phrase = rf"(?:an?|the)(?: (?:{'|'.join([*SIZES, *COLOURS])}))* (?:{'|'.join(SHAPES)})"
    found = []
    for predicate, words in RELATIONS.items():
        link = rf"(?:(?:which is|that is|placed|standing|is) )?(?:{words})"
        for match in re.finditer(rf"({phrase}) {link} ({phrase})", caption):
            found.append((look_of(match[1]), predicate, look_of(match[2])))
    for predicate, words in TURNED.items():
        for match in re.finditer(rf"({phrase}) and (?:{words}) ({phrase})", caption):
            found.append((look_of(match[1]), predicate, look_of(match[2])))
    return found


def is_true(scene: Scene, caption: str) -> bool:
    """Whether the sentence lists exactly the objects of the scene and its relations hold."""
    looks = sorted((thing.colour, thing.shape) for thing in scene.objects)
    if sorted((colour, shape) for _, colour, shape in named(caption)) != looks:
        return False
    for first, predicate, second in relations(caption):
        a, b = (
            [
                thing
                for thing in scene.objects
                if thing.shape == shape and colour in (None, thing.colour)
            ]
            for colour, shape in (first, second)
        )
        if len(a) != 1 or len(b) != 1:
            return False
        right = b[0].centre[0] - a[0].centre[0]
        down = b[0].centre[1] - a[0].centre[1]
        toward = {"left of": right, "right of": -right, "above": down, "below": -down}
        if max(toward, key=lambda name: toward[name]) != predicate:
            return False
    return True


@settings(deadline=None, max_examples=150)
@given(item=items)
def test_captions_are_true_and_name_every_object(item: tuple[str, int]) -> None:
    scene, sentences = scene_and_captions(item)
    assert len(set(sentences)) == 5
    sizes = {(thing.colour, thing.shape): thing.size for thing in scene.objects}
    for caption in sentences:
        assert is_true(scene, caption), caption
        assert len(relations(caption)) == (len(scene.objects) > 1), caption
        for size, colour, shape in named(caption):
            assert size in (None, sizes[colour, shape]), caption


@settings(deadline=None, max_examples=150)
@given(item=items)
def test_places_are_true(item: tuple[str, int]) -> None:
    """Of the object named just before, or just after in 'on the left, a red circle'."""
    scene, sentences = scene_and_captions(item)
    for caption in sentences:
        for match in PLACE.finditer(caption):
            before = list(THING.finditer(caption[: match.start()]))
            after = list(THING.finditer(caption[match.end() :]))
            words = before[-1] if before else after[0]
            look = (COLOURS[words["colour"]], SHAPES[words["shape"]])
            (thing,) = (t for t in scene.objects if (t.colour, t.shape) == look)
            x, y = thing.centre[0] - 32, thing.centre[1] - 32
            column = match["column"] or match["only_column"]
            row = match["row"] or match["only_row"]
            if match["middle"]:
                assert max(abs(x), abs(y)) < 8, caption
            if column:
                assert (x > 8) if column == "right" else (x < -8), caption
            if row:
                assert (y > 8) if row == "bottom" else (y < -8), caption


@settings(deadline=None, max_examples=80)
@given(item=items, wording=st.integers(0, 4))
def test_hard_negative_is_false_and_keeps_the_words(item: tuple[str, int], wording: int) -> None:
    """Same words apart from those of the exchanged attributes, so as many of them."""
    scene, sentences = scene_and_captions(item)
    negative = swap_hard_negative(scene, wording)
    assert not is_true(scene, negative), negative
    plain = re.sub(r"\b(?:" + "|".join([*COLOURS, *SHAPES]) + r")\b", "*", negative)
    assert named(negative) != named(sentences[wording])
    assert len(plain.split()) == pytest.approx(len(sentences[wording].split()), abs=2)


def box_of(scene: Scene, look: tuple[str | None, str]) -> tuple[float, float, float, float]:
    """The box of 'the red circle' or 'the circle'."""
    colour, shape = look
    (thing,) = (t for t in scene.objects if t.shape == shape and colour in (None, t.colour))
    return thing.box


@settings(deadline=None, max_examples=80)
@given(item=items, wording=st.integers(0, 4))
def test_false_relations_do_not_hold_and_keep_the_words(
    item: tuple[str, int], wording: int
) -> None:
    """By the boxes themselves: the true caption's relation holds, neither negative's does. The
    exchange keeps the words as they are; the opposite predicate changes the relation's alone."""
    scene, sentences = scene_and_captions(item)
    assume(scene.relation is not None)
    true = sentences[wording]
    inverted, exchanged = (
        make(scene, wording) for make in (invert_hard_negative, exchange_hard_negative)
    )
    for caption, expected in ((true, True), (inverted, False), (exchanged, False)):
        ((first, predicate, second),) = relations(caption)
        assert holds(predicate, box_of(scene, first), box_of(scene, second)) is expected, caption
        assert is_true(scene, caption) is expected, caption
    bag = [sorted(re.findall(r"[a-z]+", re.sub(r"\ban\b", "a", c))) for c in (true, exchanged)]
    assert bag[0] == bag[1]
    changed = [
        (a, b) for a, b in zip(true.split(), inverted.split(), strict=True) if a.strip(",") != b
    ]
    opposites = {"left": "right", "above": "below", "over": "under", "higher": "lower"}
    opposites |= {b: a for a, b in opposites.items()}
    assert [(a, b) for a, b in changed if opposites.get(a) != b and a != b] == []
    assert len(changed) >= 1


def test_a_phrase_names_colour_and_shape() -> None:
    phrases = {phrase(t) for i in range(200) for t in Scenes("train", 200).scene(i).objects}
    assert {"a red circle", "an orange star"} <= phrases
    assert len(phrases) == 56, "64 combinations, 8 of which training never shows"


def test_no_caption_of_a_distinct_scene_is_true_of_another() -> None:
    source = Scenes("test", 100, distinct=True)
    scenes = [source.scene(i) for i in range(100)]
    for i in range(100):
        caption = source.captions(i)[i % 5]
        assert [j for j, scene in enumerate(scenes) if is_true(scene, caption)] == [i], caption


def test_vocabulary_is_small_and_sentences_are_moderate() -> None:
    source = Scenes("train", 500)
    sentences = [caption for i in range(500) for caption in source.captions(i)]
    tokens = [re.findall(r"[a-z]+|[,:]", caption) for caption in sentences]
    assert "".join(sorted(set("".join(sentences)))).strip(" ,:").islower()
    assert max(map(len, tokens)) <= 35
    assert 80 <= len({token for words in tokens for token in words}) <= 110


def test_most_sentences_name_sizes() -> None:
    """With probability 0.9; the standard error over 5 x 400 sentences is below 1 %."""
    source = Scenes("train", 400)
    sentences = [caption for i in range(400) for caption in source.captions(i)]
    share = sum(named(caption)[0][0] is not None for caption in sentences) / len(sentences)
    assert share == pytest.approx(0.9, abs=0.03)
