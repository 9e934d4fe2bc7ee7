from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.evaluate.collapse_metrics import CollapseMetrics, collapse_metrics
from tijepa.evaluate.detect import Basis, Timing, Track, detect, detect_once, times_chance
from tijepa.evaluate.retrieval import retrieval
from tijepa.inference.embeddings import Embeddings
from tijepa.inference.results import Direction, Health, Retrieval, RunResults

TIMING = Timing(settled=100, half=500)  # a run of 1,000 steps, evaluated every 100
RANK = {"rank": 30.0, "available": 64.0, "spread": 0.95, "std": 1.0}
GAP = {"gap": 0.6, "certainty": 20.0}
Change = Mapping[str, Mapping[str, float]]


def readings(**changes: Mapping[str, float]) -> CollapseMetrics:
    """Healthy readings of a model with EMA targets, changed in places."""
    base: CollapseMetrics = {
        "image": dict(RANK),
        "text": dict(RANK),
        "image_targets": RANK | {"drift": 0.05},
        "text_targets": RANK | {"drift": 0.05},
        "image_to_text": dict(GAP),
        "text_to_image": dict(GAP),
    }
    for name, values in changes.items():
        base[name] = base[name] | dict(values)
    return {name.replace("_targets", " targets"): values for name, values in base.items()}


def run(history: Iterable[Change], timing: Timing = TIMING) -> list[Health]:
    """The verdicts on readings every 100 steps."""
    tracks: dict[str, Track] = {}
    verdicts = []
    for number, changes in enumerate(history, start=1):
        tracks, verdict = detect(tracks, readings(**changes), 100 * number, timing)
        verdicts.append(verdict)
    return verdicts


def states(history: Iterable[Change]) -> list[str]:
    return [verdict.verdict for verdict in run(history)]


def rank(modality: str, *values: float) -> list[Change]:
    return [{modality: {"rank": float(value)}} for value in values]


def test_a_healthy_run_is_healthy_throughout() -> None:
    assert states([{}] * 10) == ["healthy"] * 10


def test_a_run_that_starts_without_gap_is_early_and_then_healthy() -> None:
    none = {name: {"gap": 0.0, "certainty": 0.0} for name in ("image_to_text", "text_to_image")}
    assert states([none, none, none, {}, {}]) == ["early"] * 3 + ["healthy"] * 2


def test_a_gap_that_never_comes_is_collapse_from_half_of_the_run_on() -> None:
    none = {name: {"gap": 0.0, "certainty": 0.0} for name in ("image_to_text", "text_to_image")}
    assert states([none] * 6) == ["early"] * 4 + ["collapsed"] * 2


def test_nothing_is_judged_during_the_warmup_but_numbers_that_are_not_finite() -> None:
    early = Timing(settled=200, half=500)
    constant = {"image": {"rank": 0.0, "spread": 0.0, "std": 0.0}}
    assert run([constant], early)[0].verdict == "early"
    assert run([{"image": {"rank": math.nan}}], early)[0].verdict == "collapsed"


def test_slow_rank_decay_is_degrading_long_before_it_is_collapse() -> None:
    """Rank 30 falling by a fifth an evaluation: 30, 24, 19.2, 15.4, 12.3, 9.8, ... The best median
    of three is 24, half of it is 12: the median is 12.3 at the 6th and 9.8 at the 7th."""
    verdicts = run(rank("text", *[30 * 0.8**k for k in range(12)]))
    assert [v.verdict for v in verdicts] == ["healthy"] * 6 + ["degrading"] * 5 + ["collapsed"]
    finding = verdicts[6].findings[0]
    assert (finding.subject, finding.since) == ("text", 700)
    assert "text embeddings use fewer and fewer directions: 9.83, once 24" in finding.reason


def test_sudden_collapse_of_one_modality_is_named_at_once_with_its_step() -> None:
    dead = {"image": {"rank": 0.0, "spread": 0.001, "std": 0.0}}
    verdicts = run([{}, {}, {}, dead, dead])
    assert [v.verdict for v in verdicts] == ["healthy"] * 3 + ["collapsed"] * 2
    assert {finding.subject for finding in verdicts[-1].findings} == {"image"}
    assert verdicts[-1].reason == (
        "image embeddings are nearly the same for every item (since step 400)"
    )


def test_a_gap_that_vanishes_in_one_direction_names_that_direction() -> None:
    gaps = [0.6, 0.6, 0.6, 0.2, 0.2, 0.015, 0.001]
    history = [{"text_to_image": {"gap": gap, "certainty": 40 * gap}} for gap in gaps]
    verdicts = run(history)
    assert [v.verdict for v in verdicts] == [
        "healthy", "healthy", "healthy", "healthy", "degrading", "collapsed", "collapsed"
    ]  # fmt: skip
    assert [finding.subject for finding in verdicts[-1].findings] == ["text_to_image"]
    assert "predictions of images from texts" in verdicts[-1].reason
    assert verdicts[-1].findings[0].since == 500


def test_one_uncertain_sample_of_a_clear_gap_is_not_collapse() -> None:
    noisy = {"image_to_text": {"gap": 0.3, "certainty": 1.9}}
    assert states([{}, {}, noisy, {}]) == ["healthy", "healthy", "degrading", "healthy"]


def test_frozen_targets_are_degrading_and_drifting_ones_that_come_back_are_not() -> None:
    """Frozen: the context encoders move away and the distance stays. Lagging: it shrinks again."""

    def drift(*values: float) -> list[str]:
        return states([{"text_targets": {"drift": value}} for value in values])

    assert drift(0.1, 0.5, 0.9, 0.95, 1.0, 1.0) == ["healthy"] * 3 + ["degrading"] * 3
    assert drift(0.1, 0.9, 0.7, 0.55, 0.4, 0.3) == ["healthy"] * 6
    finding = run([{"text_targets": {"drift": 1.0}}] * 3)[-1].findings[0]
    assert (finding.subject, finding.problem) == ("text targets", "drift")


def test_collapsed_targets_are_collapse() -> None:
    assert states([{}, {"image_targets": {"rank": 1.0}}])[1] == "collapsed"


def test_shrinking_embeddings_are_degrading() -> None:
    history = [{"image": {"std": 0.4**k}} for k in range(6)]
    verdicts = run(history)
    assert verdicts[-1].verdict == "degrading"
    assert "image embeddings shrink" in verdicts[-1].reason


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_noise_of_a_third_around_healthy_readings_stays_healthy(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def noisy(value: float) -> float:
        return value * (1 + (float(torch.rand(1, generator=random)) - 0.5) * 2 / 3)

    history = [
        {
            "image": {"rank": noisy(30), "std": noisy(1), "spread": noisy(0.7)},
            "image_to_text": {"gap": noisy(0.5), "certainty": noisy(10)},
            "text_targets": {"drift": noisy(0.2)},
        }
        for _ in range(12)
    ]
    assert set(states(history)) == {"healthy"}


def test_the_verdict_does_not_flap_around_a_bound() -> None:
    """Of 64 directions 3.2 is the bound, left at 3.2 × 1.25 = 4: 3.5 and 3.9 do not leave it."""
    assert states(rank("text", 30, 30, 3.1, 3.5, 3.1, 3.9, 3.3))[2:] == ["collapsed"] * 5
    verdicts = run(rank("text", 30, 3.1, 3.9, 5.0, 30, 30, 30))
    assert [v.verdict for v in verdicts][1:4] == ["collapsed", "collapsed", "degrading"]
    assert verdicts[3].findings[0].since == 200
    assert verdicts[-1].verdict == "healthy"


def test_trouble_that_comes_back_has_a_new_beginning() -> None:
    verdicts = run(rank("text", 30, 1, 30, 30, 1))
    assert verdicts[2].verdict == "healthy"
    assert verdicts[4].findings[0].since == 500


def embeddings(n: int, d: int, share: float, seed: int) -> Embeddings:
    """Isotropic Gaussian embeddings, and predictions that explain `share` of the variance."""
    random = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(n, d, generator=random)

    image, text = draw(), draw()
    return Embeddings(
        image=image, text_from_image=share * text, text=text, image_from_text=share * image
    )


def verdict_on(e: Embeddings, times: int = 4) -> Health:
    tracks: dict[str, Track] = {}
    for number in range(1, times + 1):
        tracks, verdict = detect(tracks, collapse_metrics(e, {}), 500 * number, TIMING)
    return verdict


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(32, 200),
    d=st.integers(8, 64),  # by chance one dimension of 32 pairs can hide a gap
    share=st.floats(0.2, 1.0),
    seed=st.integers(0, 10_000),
)
def test_isotropic_gaussian_embeddings_with_a_predictor_are_never_collapsed(
    n: int, d: int, share: float, seed: int
) -> None:
    assert verdict_on(embeddings(n, d, share, seed)).verdict != "collapsed"


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 200),
    d=st.integers(1, 64),
    value=st.floats(-1e3, 1e3, width=32),
    dead=st.sampled_from(["image", "text", "both"]),
    seed=st.integers(0, 10_000),
)
def test_constant_embeddings_are_always_collapsed(
    n: int, d: int, value: float, dead: str, seed: int
) -> None:
    alive = embeddings(n, d, 1.0, seed)
    constant = torch.full((n, d), value)
    image = constant if dead != "text" else alive.image
    text = constant if dead != "image" else alive.text
    verdict = verdict_on(Embeddings(image, text, text, image))
    assert verdict.verdict == "collapsed"
    named = {finding.subject for finding in verdict.findings if finding.problem == "constant"}
    assert named >= ({"image", "text"} if dead == "both" else {dead})


def test_memory_is_plain_json_and_comes_back_equal() -> None:
    tracks: dict[str, Track] = {}
    for step in (100, 200, 300, 400):
        tracks, verdict = detect(tracks, readings(text={"rank": 3.0}), step, TIMING)
    loaded: dict[str, Any] = json.loads(json.dumps({k: asdict(v) for k, v in tracks.items()}))
    assert {name: Track(**track) for name, track in loaded.items()} == tracks
    written = json.loads(json.dumps(RunResults(health=verdict).to_json()["health"]))
    assert written["verdict"] == "collapsed"
    assert written["findings"][0]["subject"] == "text"


@pytest.mark.parametrize(
    ("steps", "warmup", "timing"),
    [(1000, 0, Timing(100, 500)), (1000, 200, Timing(200, 500)), (5, 0, Timing(1, 3))],
)
def test_the_warmup_lasts_a_tenth_of_the_run_at_least(
    steps: int, warmup: int, timing: Timing
) -> None:
    assert Timing.of(steps, warmup) == timing


# --- one evaluation, and what its sample can show ---------------------------------------------


def spectrum(n: int, d: int, seed: int) -> torch.Tensor:
    """Gaussian embeddings whose k-th direction has a variance of 1/k, as trained ones have."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=random) * torch.arange(1.0, d + 1) ** -0.5


def trained(n: int, d: int, share: float, seed: int) -> Embeddings:
    """Each modality is predicted from the other up to an error: `share` of its variance."""
    found = []
    for number in (0, 2):
        target, noise = spectrum(n, d, 4 * seed + number), spectrum(n, d, 4 * seed + number + 1)
        found.append((target, share * target + math.sqrt(share * (1 - share)) * noise))
    (image, image_from_text), (text, text_from_image) = found
    return Embeddings(image, text_from_image, text, image_from_text)


def collapsed(kind: str, n: int, d: int, seed: int) -> Embeddings:
    image, text, third, fourth = (spectrum(n, d, 4 * seed + k) for k in range(4))
    point = torch.ones(d) * 2.0
    match kind:
        case "constant":
            same = point.expand(n, d)
            return Embeddings(same, same, same, same)
        case "rounding":  # of bfloat16: full rank, hardly any spread
            image, text, third, fourth = (
                point * (1 + x / 256) for x in (image, text, third, fourth)
            )
            return Embeddings(image, third, text, fourth)
        case "line":  # one direction, along which partners lie anywhere
            image, text, third, fourth = (x[:, :1] * point for x in (image, text, third, fourth))
            return Embeddings(image, third, text, fourth)
        case "one modality":
            constant = text.mean(0).expand(n, d)
            return Embeddings(image, constant, constant, image.mean(0).expand(n, d))
        case "constant prediction":
            return Embeddings(image, text.mean(0).expand(n, d), text, image.mean(0).expand(n, d))
        case _:  # pairs do not matter
            return Embeddings(image, third, text, fourth)


def state_of(e: Embeddings) -> str:
    energy = torch.cdist(e.text_from_image, e.text) ** 2
    energy = energy + torch.cdist(e.image, e.image_from_text) ** 2
    found = retrieval(energy, torch.arange(len(e.text)))
    return detect_once(collapse_metrics(e, {}), Basis.of(found))[0]


@pytest.mark.parametrize("pairs", [20, 100, 500])
@pytest.mark.parametrize("dimensions", [16, 64, 384])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_no_trained_model_is_called_collapsed(pairs: int, dimensions: int, share: float) -> None:
    """Also one that explains a twentieth of the variance; 20 pairs are too few to say more."""
    found = {state_of(trained(pairs, dimensions, share, seed)) for seed in range(5)}
    assert "collapsed" not in found
    assert found == {"unjudged"} or pairs >= 100
    if share >= 0.3 and pairs >= 100:
        assert found == {"healthy"}


@pytest.mark.parametrize("pairs", [20, 100, 500])
@pytest.mark.parametrize("dimensions", [64, 384])
@pytest.mark.parametrize(
    "kind", ["constant", "rounding", "line", "one modality", "constant prediction", "unrelated"]
)
def test_no_collapsed_model_is_called_healthy(pairs: int, dimensions: int, kind: str) -> None:
    found = {state_of(collapsed(kind, pairs, dimensions, seed)) for seed in range(5)}
    if pairs >= 100:
        assert found == {"collapsed"}
    elif kind in ("constant", "rounding", "one modality"):
        assert found == {"collapsed"}  # beyond doubt with any number of pairs
    else:
        assert found == {"unjudged"}


def test_eighteen_pairs_of_a_working_model_are_too_few_to_judge() -> None:
    """What a user met: rank 16.7, called "of 384", a gap of 2.2 standard errors, recall 5 × chance.

    Eighteen items have 17 directions at most, so nearly all are used.
    """
    readings = {
        "image": {"rank": 16.7, "available": 17.0, "spread": 0.9, "std": 0.1},
        "text": {"rank": 15.2, "available": 17.0, "spread": 0.8, "std": 0.1},
        "image_to_text": {"gap": 0.1, "certainty": 2.2},
        "text_to_image": {"gap": 0.1, "certainty": 1.9},
    }
    assert detect_once(readings, Basis(18)) == (
        "unjudged",
        "too few pairs to judge: 18 held-out pairs, where at least 40 are needed",
    )
    state, reason = detect_once(readings, Basis(40))
    assert state == "collapsed"
    assert "train longer" not in reason
    assert "marginal" not in reason
    assert detect_once(readings, Basis(40, times_chance=5.0))[0] == "degrading"
    assert "yet recall is 5.00 times chance" in detect_once(readings, Basis(40, 5.0))[1]


def test_ranks_are_told_of_the_directions_that_the_sample_can_have() -> None:
    assert (
        "16.7 of 39 possible directions (images)"
        in detect_once(
            {"image": {"rank": 16.7, "available": 39.0, "spread": 0.9, "std": 0.1}}, Basis(40)
        )[1]
    )


def found(recall: float, n: int) -> Retrieval:
    """Recall at 1 alone; at 5 and 10 as by chance."""
    chance = Direction(1 / n, 5 / n, 10 / n, n / 2)
    return Retrieval(Direction(recall, 5 / n, 10 / n, n / 2), chance, n, n)


@pytest.mark.parametrize(
    ("hits", "n", "sure"),
    [
        (4, 100, False),  # 4 × chance, but P(X ≥ 4) = 0.018 for Binomial(100, 0.01)
        (6, 100, True),  # P(X ≥ 6) = 0.0005
        (200, 500, True),
        (2, 500, False),  # twice chance
    ],
)
def test_a_recall_counts_where_luck_does_not_explain_it(hits: int, n: int, sure: bool) -> None:
    assert times_chance(found(hits / n, n)) == (pytest.approx(hits) if sure else 0.0)


def test_a_recall_that_shrinking_embeddings_keep_does_not_count() -> None:
    """19 of 200 within the first five are 3.8 times chance: surely no luck, and yet a collapse."""
    chance = Direction(1 / 200, 5 / 200, 10 / 200, 100.0)
    assert times_chance(Retrieval(replace(chance, recall_at_5=19 / 200), chance, 200, 200)) == 0.0
    assert times_chance(Retrieval(replace(chance, recall_at_5=25 / 200), chance, 200, 200)) == 5.0


def test_random_energies_are_hardly_ever_above_chance() -> None:
    """Six recalls, each there with a probability below 0.001: below 3 of 500 samples expected."""
    random = torch.Generator().manual_seed(0)
    energies = (torch.randn(60, 60, generator=random) for _ in range(500))
    sure = [times_chance(retrieval(energy, torch.arange(60))) > 0 for energy in energies]
    assert sum(sure) <= 3


def test_a_collapse_of_what_is_fused_or_not_finite_is_not_spared_by_recall() -> None:
    fused = {"fused": {"rank": 0.0, "available": 64.0, "spread": 0.0, "std": 0.0}}
    assert detect_once(fused, Basis(500, 20.0))[0] == "collapsed"
    broken = {"image": {"rank": math.nan, "available": 64.0, "spread": 0.9, "std": 1.0}}
    assert detect_once(broken, Basis(12, 20.0))[0] == "collapsed"


def test_where_nothing_is_learned_nothing_is_judged() -> None:
    assert detect_once({}, Basis(500))[0] == "unjudged"
