from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.config import RunConfig, layers, load_config, preset_names
from tijepa.errors import ConfigError


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the presets of the package."""
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "small.yaml").write_text("# A small one.\noptim: {steps: 5, lr: 0.5}\nseed: 1\n")
    (folder / "large.yaml").write_text("optim: {steps: 50}\n")
    monkeypatch.setattr(layers, "resources", SimpleNamespace(files=lambda package: folder))
    return folder


def _problem(
    preset: str | None = None, file: Path | None = None, overrides: tuple[str, ...] = ()
) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(preset, file, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_the_defaults_hold() -> None:
    assert load_config() == RunConfig()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optim.lr=3e-4", "optim.lr", 3e-4),
        ("optim.lr=1", "optim.lr", 1.0),
        ("optim.steps=7", "optim.steps", 7),
        ("data.flip=true", "data.flip", True),
        ("objective.energy=cosine", "objective.energy", "cosine"),
        ("optim.betas=[0.5, 6e-1]", "optim.betas", (0.5, 0.6)),
        ("data.source=a=b", "data.source", "a=b"),
        ("data.source='3e4'", "data.source", "3e4"),
        ("optim={steps: 9}", "optim.steps", 9),
    ],
)
def test_an_override_sets_a_value_of_its_type(override: str, key: str, value: object) -> None:
    assert load_config(overrides=[override]).settings()[key] == value


@settings(deadline=None)
@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_an_override_keeps_every_bit_of_a_float(value: float) -> None:
    assert load_config(overrides=[f"optim.lr={value!r}"]).optim.lr == value


def test_later_layers_win(presets: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lr: 0.25}\n")
    config = load_config("small", file, ["optim.steps=6", "optim.steps=7"])
    assert (config.seed, config.optim.lr, config.optim.steps) == (1, 0.25, 7)
    assert config.optim.batch_size == RunConfig().optim.batch_size


def test_presets_are_listed_by_name(presets: Path) -> None:
    assert preset_names() == ["large", "small"]


def test_an_unknown_preset_names_the_nearest(presets: Path) -> None:
    assert (
        _problem("smal") == "preset 'smal' is unknown; did you mean 'small'? (known: large, small)"
    )


def test_a_preset_in_the_place_of_an_override_is_recognised(presets: Path) -> None:
    assert _problem(overrides=("small",)) == "'small' is a preset: write `preset=small`"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_of_the_package_is_valid_and_says_what_it_is_for(name: str) -> None:
    assert isinstance(load_config(preset=name), RunConfig)
    text = (Path(layers.__file__).parents[1] / "presets" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# ")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.lrr", "optim.lr"),
        ("optm.lr", "optim"),
        ("lr", "optim.lr"),
        ("objective.nam", "objective.name"),
        ("objective.regularise_image.weight", "objective.regularize_image"),
        ("data.batch_size", "optim.batch_size"),
        ("model.text.dept", "model.text.depth"),
        ("eval_evry", "log.eval_every"),
    ],
)
def test_an_unknown_setting_names_the_nearest(key: str, meant: str) -> None:
    message = _problem(overrides=(f"{key}=1",))
    assert message.startswith("unknown setting '")
    assert message.endswith(f"; did you mean '{meant}'?")


def test_an_unknown_setting_that_is_near_to_nothing_lists_its_section() -> None:
    assert _problem(overrides=("log.xyzzy=1",)) == (
        "unknown setting 'log.xyzzy';"
        " log has every, eval_every, save_every, keep_last, tensorboard, wandb, loggers"
    )


@pytest.mark.parametrize("override", ["optim.lr", "=3", ""])
def test_an_override_has_a_key_and_a_value(override: str) -> None:
    assert "is not of the form section.key=value" in _problem(overrides=(override,))


def test_an_override_that_is_not_yaml_is_refused() -> None:
    assert "'[' is not a valid YAML value" in _problem(overrides=("optim.betas=[",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"optim:\n  lr: [", "is not valid YAML: "),
        (b"optim:\n  lr: 1\n  lr: 2\n", "key 'lr' stands twice in one mapping in line 3"),
        (b"- 1\n", "holds [1]; it must hold sections"),
        (b"\xff\xfe\x00", "is not UTF-8 text (byte 0)"),
        (b"optim:\n  lrr: 1\n", "unknown setting 'optim.lrr'"),
        (b"1: 2\n", "key 1 is not text in line 1"),
        (b"optim:\n  yes: 2\n", "key True is not text in line 2"),
        (b"optim: {[1]: 2}\n", "is not text in line 1"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    assert message in _problem(file=file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    assert _problem(file=file).startswith(f"cannot read configuration {file}: No such file")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.touch()
    assert load_config(file=file) == RunConfig()
