"""Folds for cross-validation: classes in equal shares, copies of an item never on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tijepa.errors import ConfigError, DataError

__all__ = ["assign_folds", "hold_out", "join_groups"]


def assign_folds(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    folds: int,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Int[Tensor, " n"]:
    """The fold of every item, 0 to folds - 1.

    Groups, the largest first and those of one size in an order drawn from `seed`, go one by one to
    the fold that has the fewest items of the group's commonest class, among equals to the one with
    the fewest items. So where no item has a copy, the folds' items of a class differ by at most 1.
    Raises `ConfigError` where `folds` is under 2 and `DataError` where a class stands in fewer
    groups than there are folds, or a group is larger than a fold; `names` of classes are for that.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}: it must be at least 2")
    table, group = _table(labels, groups)
    _check(table, len(labels), folds, names)
    return _assigned(table, folds, seed)[group]


def hold_out(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    share: float,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Bool[Tensor, " n"]:
    """True at items held out: about `share` (at most ½) of each class, at least one group.

    So of a class in few groups more than `share`. Raises `ConfigError` for a share out of bounds,
    `DataError` where a class stands in one group only.
    """
    if not 0 < share <= 0.5:
        raise ConfigError(f"share is {share}: it must lie above 0 and be at most 0.5")
    table, group = _table(labels, groups)
    present = (table > 0).sum(dim=0)
    parts = max(2, min(round(1 / share), int(present[present > 0].min())))
    _check_classes(table, parts, names)
    return _assigned(table, parts, seed)[group] == parts - 1  # the largest groups stay in part 0


def join_groups(*keys: Sequence[Hashable | None]) -> Int[Tensor, " n"]:
    """Group numbers of items that agree in any of their keys, directly or through others.

    None is no key: it agrees with nothing.
    """
    count = len(keys[0])
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for column in keys:
        first: dict[Hashable, int] = {}
        for item, key in enumerate(column):
            if key is not None:
                a, b = root(first.setdefault(key, item)), root(item)
                parent[max(a, b)] = min(a, b)
    return torch.tensor([root(item) for item in range(count)], dtype=torch.long)


def _table(
    labels: Int[Tensor, " n"], groups: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "g c"], Int[Tensor, " n"]]:
    """Items by group and class, and the row of each item's group."""
    _, group = torch.unique(groups, return_inverse=True)
    count, classes = int(group.max()) + 1, int(labels.max()) + 1
    table = torch.bincount(group * classes + labels, minlength=count * classes)
    return table.reshape(count, classes), group


def _assigned(table: Int[Tensor, "g c"], folds: int, seed: int) -> Int[Tensor, " g"]:
    """The fold of every group, as `assign_folds` says."""
    count, classes = table.shape
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = drawn[torch.argsort(table.sum(dim=1)[drawn], descending=True, stable=True)]
    main: list[int] = table.argmax(dim=1).tolist()
    rows: list[list[int]] = table.tolist()
    held = [[0] * classes for _ in range(folds)]  # items by fold and class
    sizes = [0] * folds
    fold_of_group = [0] * count
    for g in order.tolist():
        same = [held[f][main[g]] for f in range(folds)]
        fold = min(zip(same, sizes, range(folds), strict=True))[2]
        held[fold] = [a + b for a, b in zip(held[fold], rows[g], strict=True)]
        sizes[fold] += sum(rows[g])
        fold_of_group[g] = fold
    return torch.tensor(fold_of_group)


def _check(table: Int[Tensor, "g c"], items: int, folds: int, names: Sequence[str]) -> None:
    largest = int(table.sum(dim=1).max())
    if largest > max(1, items // folds):
        raise DataError(
            f"{largest} of {items} items are copies of each other, more than one of {folds} folds"
            " holds: take fewer folds, or count equal pictures alone as copies"
        )
    _check_classes(table, folds, names)


def _check_classes(table: Int[Tensor, "g c"], parts: int, names: Sequence[str]) -> None:
    for number, present in enumerate((table > 0).sum(dim=0).tolist()):
        if 0 < present < parts:
            name = repr(names[number]) if names else number
            items = "1 item that is" if present == 1 else f"{present} items that are"
            raise DataError(
                f"class {name} has {items} no copy of another, and {parts} parts need one each:"
                " take fewer folds, or leave the class out"
            )
