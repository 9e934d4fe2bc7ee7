"""What a run is where nothing but its data are named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tijepa.config import RunConfig, load_config
from tijepa.errors import ConfigError, MissingExtraError
from tijepa.io.progress import Reporter
from tijepa.training import choose
from tijepa.training.choose import FROM_SCRATCH, configured


class Lines(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def chosen_for(
    count: int, monkeypatch: pytest.MonkeyPatch, *settings: str
) -> tuple[RunConfig, list[str]]:
    """What is chosen for `count` training images; no data are opened."""
    splits = SimpleNamespace(split=lambda name: range(count))
    monkeypatch.setattr(choose, "open_run_data", lambda *_: splits)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    reporter = Lines()
    return configured(None, None, ["data.source=mine", *settings], reporter), reporter.said


def test_few_images_get_heads_on_pretrained_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = chosen_for(6091, monkeypatch)
    base = load_config("photos-frozen")
    assert config.model.image == base.model.image
    assert config.objective == base.objective
    assert config.optim.steps == 952  # 10 epochs of 6,091 images in batches of 64: 951.7
    assert "6,091 training images are too few to train encoders from scratch" in said[0]
    assert "23 MB, licence Apache-2.0" in said[1]
    assert "installed" in said[2]
    assert "for the features of 6,091 images" in said[3]


def test_steps_follow_the_number_of_images_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 images: 78 steps of 64 would be ten epochs, and 100 are the fewest; 30 are one batch."""
    trained = "optim.lr=0.001"  # asks for training where a closed form would be taken
    assert chosen_for(500, monkeypatch, trained)[0].optim.steps == 100
    assert chosen_for(30, monkeypatch, trained)[0].optim.batch_size == 30
    assert chosen_for(99_999, monkeypatch)[0].optim.steps == 15_625


def test_below_two_thousand_images_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = chosen_for(1999, monkeypatch)
    assert config.objective.name == "closed_form"
    assert "regression between pretrained encoders" in said[0]
    assert "heads add nothing to it below 2,000 images" in said[1]
    assert chosen_for(2000, monkeypatch)[0].objective.name == "tijepa"
    assert chosen_for(1999, monkeypatch, "objective.name=clip")[0].objective.name == "clip"


def test_many_images_train_encoders_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = chosen_for(FROM_SCRATCH, monkeypatch)
    assert config.model.image.backbone is None
    assert config.data.image_size == load_config("photos-tiny").data.image_size
    assert "enough to train encoders from scratch" in said[0]


@pytest.mark.parametrize(
    "setting", ["model.image.width=64", "model.text.depth=2", "model.image.backbone=null"]
)
def test_whoever_sets_up_an_encoder_gets_it_from_scratch(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said = chosen_for(500, monkeypatch, setting)
    assert config == load_config(None, None, ["data.source=mine", setting])
    assert said == [
        f"chooses   encoders from scratch, as {setting.partition('=')[0]} asks for them"
    ]


def test_an_objective_of_one_modality_trains_its_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = chosen_for(500, monkeypatch, "objective.name=ijepa")
    assert config.model.image.backbone is None
    assert "objective.name" in said[0]


def test_settings_stand_above_what_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, said = chosen_for(
        500, monkeypatch, "optim.steps=7", f"model.image.backbone={tmp_path}", "objective.name=clip"
    )
    assert (config.optim.steps, config.objective.name) == (7, "clip")
    assert config.model.image.backbone == str(tmp_path)
    assert said[1].endswith("(a folder)")


def test_who_names_encoders_and_heads_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders alone leave steps, batch and heads to be chosen."""
    encoders = ["model.image.backbone=vit", "model.text.backbone=bert"]
    config, said = chosen_for(500, monkeypatch, *encoders, "model.head.hidden=9")
    assert config == load_config(None, None, ["data.source=mine", *encoders, "model.head.hidden=9"])
    assert said == []


def test_the_closed_form_has_a_preset_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = chosen_for(500, monkeypatch, 'objective.name="closed_form"')
    assert config == load_config("photos-closed-form", None, ["data.source=mine"])
    assert said == ["chooses   preset photos-closed-form, as objective.name is 'closed_form'"]


def test_presets_files_and_scenes_are_taken_as_they_are(tmp_path: Path) -> None:
    reporter = Lines()
    file = tmp_path / "own.yaml"
    file.write_text("optim: {steps: 3}\n")
    assert configured("photos-tiny", None, ["data.source=x"], reporter) == load_config(
        "photos-tiny", None, ["data.source=x"]
    )
    assert configured(None, file, ["data.source=x"], reporter).optim.steps == 3
    assert configured(None, None, [], reporter) == load_config()
    assert reporter.said == []


def test_a_package_that_is_missing_is_named_with_both_ways_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise MissingExtraError("huggingface_hub", "hf")

    monkeypatch.setattr(choose, "where_is", missing)
    with pytest.raises(ConfigError) as error:
        chosen_for(500, monkeypatch)
    assert "pip install 'tijepa[hf]'" in str(error.value)
    assert "preset=photos-tiny" in str(error.value)
    assert "\n" not in str(error.value)
