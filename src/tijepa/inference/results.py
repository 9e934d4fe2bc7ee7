"""What is measured of a model, typed: `results.json`, the evaluations of `metrics.jsonl`, the card.

The JSON of a record has the names of the fields here. A record is read whatever its state: a number
that is damaged or was not recorded is NaN, a part that is missing is None or empty, and what other
code measured (a plug-in's evaluation) is kept in `extra`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter

from tijepa.io.formatting import points, without_nan

TROUBLE = ("degrading", "collapsed")


def _only(*kinds: type, otherwise: Callable[[], Any]) -> BeforeValidator:
    return BeforeValidator(lambda found: found if isinstance(found, kinds) else otherwise())


def _mappings(found: Any) -> dict[str, Any]:
    """The entries of a mapping that are mappings themselves."""
    whole = found if isinstance(found, dict) else {}
    return {str(name): one for name, one in whole.items() if isinstance(one, dict)}


def _listed(kind: type) -> BeforeValidator:
    """The entries of a list that are of one kind."""
    return BeforeValidator(
        lambda found: (
            [one for one in found if isinstance(one, kind)]
            if isinstance(found, (list, tuple))
            else []
        )
    )


Number = Annotated[int | float, _only(int, float, otherwise=lambda: math.nan)]
Maybe = Annotated[int | float | None, _only(int, float, otherwise=lambda: None)]
Whole = Annotated[int, _only(int, otherwise=lambda: 0)]
Word = Annotated[str, _only(str, otherwise=str)]
Text = Annotated[str | None, _only(str, otherwise=lambda: None)]
Readings = Annotated[dict[str, dict[str, Number]], BeforeValidator(_mappings)]
_PART = _only(dict, otherwise=dict)
_OPTIONAL = BeforeValidator(lambda found: found if isinstance(found, dict) and found else None)


@dataclass(frozen=True)
class Direction:
    """Retrieval in one direction: recalls as fractions of the queries, ranks count from 1."""

    recall_at_1: Number = math.nan
    recall_at_5: Number = math.nan
    recall_at_10: Number = math.nan
    median_rank: Number = math.nan  # mean of the two middle ranks where the queries are even

    @property
    def recalls(self) -> tuple[Number, Number, Number]:
        """At 1, 5 and 10."""
        return self.recall_at_1, self.recall_at_5, self.recall_at_10


@dataclass(frozen=True)
class Retrieval:
    """Both directions among the same images and texts.

    `chance_at_1` is the recall at 1 of a uniformly random order of images; k times that at k.
    """

    image_to_text: Annotated[Direction, _PART] = Direction()
    text_to_image: Annotated[Direction, _PART] = Direction()
    num_images: Number = math.nan
    num_texts: Number = math.nan
    chance_at_1: Number = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.chance_at_1) and self.num_images > 0:
            object.__setattr__(self, "chance_at_1", 1.0 / self.num_images)

    @property
    def directions(self) -> dict[str, Direction]:
        """Both by name, image to text first."""
        return {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}

    @property
    def mean_recall_at_1(self) -> float:
        """Mean of both directions."""
        return (self.image_to_text.recall_at_1 + self.text_to_image.recall_at_1) / 2


@dataclass(frozen=True)
class ModalityReadings:
    """Readings of one modality's pooled embeddings."""

    effective_rank: Number = math.nan
    dimensions: Number = math.nan
    mean_std: Number = math.nan
    min_std: Number = math.nan


@dataclass(frozen=True)
class Collapse:
    """Readings of both modalities, the energies of matched and shuffled pairs, and a verdict.

    `gap` is shuffled minus matched energy; positive where the right partner is the likelier one.
    """

    image: Annotated[ModalityReadings, _PART] = ModalityReadings()
    text: Annotated[ModalityReadings, _PART] = ModalityReadings()
    matched_energy: Number = math.nan
    shuffled_energy: Number = math.nan
    gap: Number = math.nan
    verdict: Text = None
    reason: Text = None

    def __post_init__(self) -> None:
        if math.isnan(self.gap):
            object.__setattr__(self, "gap", self.shuffled_energy - self.matched_energy)

    @property
    def modalities(self) -> dict[str, ModalityReadings]:
        """Both by name, images first."""
        return {"image": self.image, "text": self.text}


@dataclass(frozen=True)
class Finding:
    """One subject in trouble: which, how bad, what kind, from which step, in words."""

    subject: Word = ""
    verdict: Word = ""
    problem: Word = ""
    since: Whole = 0
    reason: Word = ""


@dataclass(frozen=True)
class Rollback:
    """The guard went back from one step to a healthy checkpoint, and why."""

    from_step: Whole = 0
    to_step: Whole = 0
    reason: Word = ""


@dataclass(frozen=True)
class Health:
    """What the collapse guard said at an evaluation while training, and at which step.

    `readings` are what it judged, by subject; `rollbacks` all of the run so far.
    """

    step: Annotated[int | None, _only(int, otherwise=lambda: None)] = None
    verdict: Text = None
    reason: Text = None
    findings: Annotated[tuple[Finding, ...], _listed(dict)] = ()
    advice: Annotated[tuple[str, ...], _listed(str)] = ()
    readings: Readings = field(default_factory=dict)
    rollbacks: Annotated[tuple[Rollback, ...], _listed(dict)] = ()


@dataclass(frozen=True)
class Bin:
    """A tenth of the scale of probabilities: the weight of its pairs, and what became of them."""

    low: Annotated[Number, Field(alias="from")] = math.nan
    to: Number = math.nan
    share: Number = math.nan
    predicted: Number = math.nan  # mean probability; NaN in an empty bin, as is
    matched: Number = math.nan  # the share that is matched


@dataclass(frozen=True)
class Match:
    """Reliability of the probability of match on pairs that its fit did not see."""

    prior: Number = math.nan
    fitted_on: Text = None
    matched_pairs: Number = math.nan
    shuffled_pairs: Number = math.nan
    expected_calibration_error: Number = math.nan
    brier: Number = math.nan
    bins: Annotated[tuple[Bin, ...], _listed(dict)] = ()
    roc_auc: Number = math.nan


@dataclass(frozen=True)
class Novel:
    """What was measured on scenes of combinations that training never shows."""

    retrieval: Annotated[Retrieval, _PART] = Retrieval()


@dataclass(frozen=True)
class Pointing:
    """Share of `queries` that point into the box, and the two levels that frame it.

    `box_area` is the mean share of the image that a box covers; `reachable` is the share of
    queries with any cell centre inside the box, the most that a map of this grid can reach.
    """

    accuracy: Number = math.nan
    chance: Number = math.nan
    box_area: Number = math.nan
    reachable: Number = math.nan
    queries: Number = math.nan
    grid: Number = math.nan


@dataclass(frozen=True)
class Accuracy:
    """Share of `pairs` in which the true caption has the lower energy."""

    accuracy: Number = math.nan
    pairs: Number = math.nan


@dataclass(frozen=True)
class LabelScore:
    """One label: its items, the share that is right, and what it is most often taken for."""

    label: Word = ""
    items: Number = math.nan
    top_1: Maybe = None  # None without items
    taken_for: Text = None  # None where nothing is wrong


@dataclass(frozen=True)
class ZeroShot:
    """Shares of the items whose label has the lowest energy, or one of the five lowest.

    `top_5` is None where there are five labels or fewer. `chance` is that of a uniform guess at
    top 1; `majority` is the share of the most frequent label, which guessing it always reaches;
    `mean_per_label` weighs each label alike, whatever its number of items. `column` holds the
    labels, `form` is the form of the energy, `prompts` the first prompt of each label.
    """

    column: Text = None
    form: Text = None
    prompts: Annotated[dict[str, Word], _PART] = field(default_factory=dict)
    top_1: Number = math.nan
    top_5: Maybe = None
    mean_per_label: Number = math.nan
    chance: Number = math.nan
    majority: Number = math.nan
    items: Number = math.nan
    labels: Annotated[tuple[LabelScore, ...], _listed(dict)] = ()


@dataclass(frozen=True)
class Forgetting:
    """On scenes: what a text-image model found as it came, and what the run finds.

    `agreement_at_10` is the share of the ten nearest that both name.
    """

    before: Annotated[Retrieval, _PART] = Retrieval()
    after: Annotated[Retrieval, _PART] = Retrieval()
    agreement_at_10: Number = math.nan


class Judgement(NamedTuple):
    """A verdict and its reason, None where nothing is recorded."""

    verdict: str | None
    reason: str | None


@dataclass(frozen=True)
class RunResults:
    """What one evaluation measured: of the final model, or, with its `step`, while training.

    `retrieval` is by the energy of the default `form`, `energies` has it for every form; `health`
    is the guard's last word before it. `closed_form` is what regression alone finds among the same
    pairs, without any training, where both encoders are frozen, and `own_cosine` what a pretrained
    text-image model finds by the cosine of its projections, as it does without tijepa;
    `forgetting` is what training on top of one did to another domain.
    """

    step: Annotated[int | None, _only(int, otherwise=lambda: None)] = None
    split: Text = None
    checkpoint: Text = None
    retrieval: Annotated[Retrieval | None, _OPTIONAL] = None
    form: Text = None
    energies: Annotated[dict[str, Retrieval], BeforeValidator(_mappings)] = field(
        default_factory=dict
    )
    collapse: Annotated[Collapse | None, _OPTIONAL] = None
    tasks: Readings = field(default_factory=dict)
    seconds: Number = math.nan
    closed_form: Annotated[Retrieval | None, _OPTIONAL] = None
    own_cosine: Annotated[Retrieval | None, _OPTIONAL] = None
    forgetting: Annotated[Forgetting | None, _OPTIONAL] = None
    match_probability: Annotated[Match | None, _OPTIONAL] = None
    health: Annotated[Health | None, _OPTIONAL] = None
    novel: Annotated[Novel | None, _OPTIONAL] = None
    pointing: Annotated[Pointing | None, _OPTIONAL] = None
    hard_negatives: Annotated[dict[str, Accuracy], BeforeValidator(_mappings)] = field(
        default_factory=dict
    )
    zero_shot: Annotated[ZeroShot | None, _OPTIONAL] = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RunResults:
        """Read the content of `results.json`, or a line of kind "eval" of `metrics.jsonl`."""
        names = cls.__dataclass_fields__.keys() - {"extra"}
        known = {name: found[name] for name in names & found.keys()}
        extra = {name: one for name, one in found.items() if name not in names | {"kind"}}
        read: RunResults = _ADAPTER.validate_python({**known, "extra": extra})
        return read

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; what was not measured is left out.

        But `match_probability` is None where a final model has none. Numbers that are not finite
        are None, and what a plug-in measured stands beside the rest.
        """
        plain: dict[str, Any] = without_nan(_ADAPTER.dump_python(self, by_alias=True))
        extra = plain.pop("extra")
        if self.health is not None and self.health.step is None:
            del plain["health"]["step"]
        final = {"match_probability"} if self.step is None else set()
        kept = {name: one for name, one in plain.items() if name in final or one not in (None, {})}
        whole: dict[str, Any] = kept | extra
        return whole

    @property
    def forms(self) -> tuple[dict[str, Retrieval], str]:
        """Retrieval by form of energy, and the form that `retrieval` is by."""
        forms, reported = dict(self.energies), self.retrieval or Retrieval()
        chosen = self.form or "reported"
        if chosen not in forms:
            chosen = next((form for form, one in forms.items() if one == reported), chosen)
            forms.setdefault(chosen, reported)
        return forms, chosen

    @property
    def added(self) -> dict[str, float] | None:
        """Recall at 1 beyond the closed form's, by direction; None where that was not measured."""
        if self.retrieval is None or self.closed_form is None:
            return None
        before = self.closed_form.directions
        return {
            name: one.recall_at_1 - before[name].recall_at_1
            for name, one in self.retrieval.directions.items()
        }

    @property
    def added_in_words(self) -> str | None:
        """What training added over the closed form; None where that was not measured."""
        if self.added is None:
            return None
        return (
            "training added over the closed form, in points of R@1:"
            f" {points(self.added['image_to_text'])} image → text,"
            f" {points(self.added['text_to_image'])} text → image"
        )

    @property
    def judgement(self) -> Judgement:
        """The verdict that readers see first: that on the embeddings, or else the guard's."""
        return shown_verdict(self.collapse, self.health)

    @property
    def trouble(self) -> str | None:
        """How training ended; see `trouble_in_training`."""
        return trouble_in_training(self.collapse, self.health)


_ADAPTER: TypeAdapter[RunResults] = TypeAdapter(RunResults)


def shown_verdict(collapse: Collapse | None, health: Health | None) -> Judgement:
    """Verdict and reason of the collapse readings; of the guard where those judge nothing.

    An objective that trains no pooled embedding (the paper's) is judged by what it fuses.
    """
    found = collapse or Collapse()
    if found.verdict == "unjudged" and health is not None and health.verdict is not None:
        return Judgement(health.verdict, health.reason)
    return Judgement(found.verdict, found.reason)


def trouble_in_training(collapse: Collapse | None, health: Health | None) -> str | None:
    """How the run ended by the guard's verdict, where that is trouble and not shown already.

    The model that was kept is from before it.
    """
    ended = None if health is None else health.verdict
    unjudged = collapse is not None and collapse.verdict == "unjudged"
    return ended if ended in TROUBLE and not unjudged else None
