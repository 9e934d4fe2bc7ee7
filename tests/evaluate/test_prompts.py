from __future__ import annotations

from pathlib import Path

import pytest

from tijepa.errors import ConfigError
from tijepa.evaluate.zero_shot import Prompts, default_prompts, read_prompts


def written(folder: Path, text: str) -> Path:
    path = folder / "prompts.yaml"
    path.write_text(text)
    return path


def test_templates_are_filled_with_the_names_of_values(tmp_path: Path) -> None:
    path = written(tmp_path, 'templates: ["a photo of a {}.", "{}"]\nnames: {7: dog}\n')
    assert read_prompts(path).of(["7", "cat"]) == {
        "7": ["a photo of a dog.", "dog"],
        "cat": ["a photo of a cat.", "cat"],
    }


def test_labels_with_prompts_of_their_own_are_all_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "labels:\n  dog: [a dog, a puppy]\n  cat: a cat\n")
    assert read_prompts(path).of(["cow"]) == {"dog": ["a dog", "a puppy"], "cat": ["a cat"]}


def test_scenes_are_asked_in_their_own_wording() -> None:
    found = default_prompts("colour", scenes=True).of(["red"])["red"]
    assert len(found) == 8
    assert "a red circle" in found
    assert "a green star" in default_prompts("shape", scenes=True).of(["star"])["star"]
    assert default_prompts("kind", scenes=False).of(["dog"])["dog"][0] == "a photo of a dog."


def test_braces_of_a_value_are_text() -> None:
    assert Prompts(templates=("a {}",)).of(["{0}"]) == {"{0}": ["a {0}"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "has neither templates nor labels"),
        ("names: {a: b}", "has neither templates nor labels"),
        ("templates: ['a {}']\ntemplate: 3", "'template' is unknown; known: templates"),
        ("templates: [a cat]", r"template 'a cat' has no \{\} for the label"),
        ("templates: []", "templates is"),
        ("templates: [3]", "templates is"),
        ("templates: ['{}']\nnames: [a]", "names is"),
        ("labels: {}", "labels is"),
        ("labels: {dog: []}", "label 'dog' is"),
        ("labels: {dog: a}\nnames: {dog: b}", "templates and names do nothing"),
        ("labels: {", "is no YAML"),
    ],
)
def test_a_file_of_another_form_is_an_error_of_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        read_prompts(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_prompts(tmp_path / "none.yaml")
