from __future__ import annotations

import pytest

from tijepa.config import RunConfig, load_config
from tijepa.evaluate.advice import advice
from tijepa.inference.results import Finding


def hints(subject: str, problem: str, *overrides: str, epochs: float = 0.0) -> list[str]:
    config = load_config(overrides=list(overrides)) if overrides else RunConfig()
    finding = Finding(subject, "collapsed", problem, 100, "")
    return advice([finding], config.settings(), epochs)


def test_no_finding_needs_no_advice() -> None:
    assert advice([], RunConfig().settings()) == []


def test_a_lost_rank_asks_for_more_of_that_modalitys_regularizer() -> None:
    assert hints("text", "rank")[0] == (
        "spread text embeddings more: objective.regularize_text.weight above 0.05"
    )
    assert "objective.regularize_image.weight" in hints("image targets", "rank")[0]


def test_without_regularizer_and_norm_and_with_small_batches_it_names_all_three() -> None:
    found = hints(
        "text", "constant",
        "objective.regularize_text.name=none", "model.head.norm=none", "optim.batch_size=16",
    )  # fmt: skip
    assert found == [
        "spread text embeddings more: objective.regularize_text={name: sigreg, weight: 0.05}",
        "normalise embeddings over the batch: model.head.norm=batch",
        "compare more pairs at once: optim.batch_size above 16",
    ]


def test_what_it_advises_about_the_regularizer_can_be_set() -> None:
    setting = hints("text", "rank", "objective.regularize_text.name=none")[0].split(": ", 1)[1]
    config = load_config(overrides=["objective.regularize_text.name=none", setting])
    assert config.objective.regularize_text.name == "sigreg"


def test_drifting_targets_ask_for_a_lower_momentum() -> None:
    found = hints("text targets", "drift", "objective.pooled_targets=ema")
    assert found[0] == "let targets follow sooner: optim.ema_momentum below [0.99, 1]"


def test_a_constant_fusion_asks_for_what_the_encoders_settings_can_give() -> None:
    """No regularizer and no norm reach the fused tokens."""
    found = hints("fused", "constant", "objective.tasks.fusion_infill=1", "optim.batch_size=16")
    assert found == [
        "compare more pairs at once: optim.batch_size above 16",
        "let targets follow sooner: optim.ema_momentum below [0.99, 1]",
        "learn in smaller steps: optim.lr below 0.001",
    ]
    assert hints("fused targets", "rank", "objective.tasks.fusion_infill=1")[0].startswith(
        "let targets"
    )


def test_a_lost_gap_asks_for_more_weight_in_that_direction() -> None:
    assert hints("text_to_image", "gap")[0] == (
        "give predictions of images from texts more weight:"
        " objective.tasks.text_to_image.pooled above 1"
    )


@pytest.mark.parametrize(("epochs", "longer"), [(0.5, True), (99.0, True), (560.0, False)])
def test_a_run_of_more_than_a_hundred_epochs_is_never_told_to_train_longer(
    epochs: float, longer: bool
) -> None:
    found = hints("text_to_image", "gap", epochs=epochs)
    assert any("train longer" in hint for hint in found) == longer


@pytest.mark.parametrize("problem", ["constant", "rank", "gap", "drift", "not_finite", "shrunk"])
def test_settings_without_effect_are_never_advised(problem: str) -> None:
    subject = "text_to_image" if problem == "gap" else "text"
    found = hints(subject, problem, "objective.name=clip")
    assert found
    assert not any("regularize" in hint or "ema" in hint or "tasks" in hint for hint in found)


def test_the_first_trouble_is_treated_and_an_embedding_before_its_prediction() -> None:
    late = Finding("text_to_image", "collapsed", "gap", 200, "")
    early = Finding("image", "degrading", "rank", 100, "")
    same = Finding("image", "degrading", "rank", 200, "")
    for other in (early, same):
        assert "regularize_image" in advice([late, other], RunConfig().settings())[0]
