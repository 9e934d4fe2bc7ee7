"""Which split an item goes into, decided while a source of any size is read once.

Where the source names splits, an item without one is set aside. Where it names none, items are
split by a hash of their id: 90 % train, 5 % validation, 5 % test; fewer than 20 items are all
train, and from 20 on no split is empty. What only the end of a source tells makes reading start
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tijepa.data.check import Checked, Finding
from tijepa.data.splits import hash_fraction, split_of

__all__ = ["SplitPlan", "SplitSettler", "StartAgainError"]

_FEWEST_TO_SPLIT = 20
_CERTAIN = 2000  # items beyond which an empty split has a chance below 10^-44


@dataclass(frozen=True)
class SplitPlan:
    """What is known before reading.

    `named`: whether the source names splits; None where its first item decides. `moved`: splits
    of single items of a small source that the hash does not decide; None where that is not known.
    """

    named: bool | None = None
    moved: Mapping[str, str] | None = None


class StartAgainError(Exception):
    """The items read so far were split by a rule that turned out not to be theirs."""

    def __init__(self, plan: SplitPlan) -> None:
        super().__init__("the splits are settled otherwise")
        self.plan = plan


@dataclass
class SplitSettler:
    """Gives items their splits, one after the other.

    With `mixed`, items may name a split where others go by the hash.
    """

    plan: SplitPlan
    mixed: bool = False
    _ids: list[str] = field(default_factory=list)
    _count: int = 0

    @property
    def named(self) -> bool:
        """Whether the source names splits, as far as it was read."""
        return bool(self.plan.named)

    def settle(self, checked: Checked) -> Checked:
        """`checked` with its split, or set aside for having none while others do.

        Raises `StartAgainError` where it has one and all before had none.
        """
        sound = checked.sound
        if sound is None:
            return checked
        record = sound.record
        if self.plan.named is None:
            self.plan = replace(self.plan, named=record.split is not None)
        if self.plan.named:
            if record.split is not None:
                return checked
            reason = "split is None, while other rows name one"
            finding = Finding(record.id, record.reference, "split-missing", reason, True)
            return replace(checked, sound=None, findings=(*checked.findings, finding))
        if record.split is not None:
            if self.mixed:
                return checked
            raise StartAgainError(SplitPlan(named=True))
        self._count += 1
        if len(self._ids) < _CERTAIN:
            self._ids.append(record.id)
        split = (self.plan.moved or {}).get(record.id) or split_of(record.id)
        record = replace(record, split=split)
        return replace(checked, sound=replace(sound, record=record), record=record)

    def finish(self) -> None:
        """Call at the end: raises `StartAgainError` where the source is too small for the hash."""
        if self.plan.named or self.plan.moved is not None or self._count >= _CERTAIN:
            return
        moved = _moved(self._ids)
        if moved:
            raise StartAgainError(SplitPlan(named=False, moved=moved))


def _moved(ids: Sequence[str]) -> dict[str, str]:
    """The items of a small source that go elsewhere than the hash says."""
    splits = {item: split_of(item) for item in ids}
    if len(ids) < _FEWEST_TO_SPLIT:
        return {item: "train" for item, split in splits.items() if split != "train"}
    ranked = sorted(splits, key=hash_fraction)
    settled = dict(splits)
    if "test" not in splits.values():
        settled[ranked[-1]] = "test"
    if "validation" not in settled.values():
        train = [item for item in ranked if settled[item] == "train"]
        settled[train[-1]] = "validation"
    return {item: split for item, split in settled.items() if split != splits[item]}
