"""Objectives against each other: rates tuned on validation, then judged on test by every seed.

A cell is what is equal for all objectives in one comparison: a batch size, a number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rich.table import Table

from grid.job import Job
from grid.runner import Runner

__all__ = ["RATES", "RIVALS", "Contest", "Outcome", "losses", "ratios"]

RATES = tuple(1.25e-4 * 2**k for k in range(-4, 9))  # 7.8e-6 to 3.2e-2
RIVALS = ("clip", "siglip")
Entry = tuple[str, str]  # objective, cell


@dataclass(frozen=True)
class Contest:
    """Who takes part, and how. `job(objective, cell, lr, seed)` makes a run.

    `view(objective, result)` is what counts of its result: two that make the same runs may be
    judged differently. Entries whose best rate is `known` are not tuned.

    The search of an entry's rate starts at `first` and its neighbours, and walks on until the best
    one has been tried with `reach` rates on either side, each twice the last: with two the rates
    tried around it span a factor of 16. 0 takes the first as it is. The search is by the first
    seed; of its `finalists` best rates the one with the highest mean over all seeds is the best.
    """

    objectives: Sequence[str]
    cells: Sequence[str]
    job: Callable[[str, str, float, int], Job]
    first: Callable[[str, str], float]
    seeds: Sequence[int]
    reach: int = 2
    finalists: int = 1
    view: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _, result: result
    known: Mapping[Entry, float] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """Every objective in every cell."""
        return [(name, cell) for cell in self.cells for name in self.objectives]

    def held(self, runner: Runner) -> Outcome:
        """Tune, then judge the best rate by every seed."""
        tried = {entry: self._nearest(entry) for entry in self.entries}
        while True:
            found = self._results(runner, tried, self.seeds[:1])
            final = {
                entry: sorted(ks, key=lambda k, e=entry: -_mean(found[e, k]))[: self.finalists]
                for entry, ks in tried.items()
            }
            grown = self._grown(tried, {entry: ks[0] for entry, ks in final.items()})
            if grown == tried:
                seeded = self._results(runner, final, self.seeds)
                best = {
                    entry: max(ks, key=lambda k, e=entry: _mean(seeded[e, k]))
                    for entry, ks in final.items()
                }
                grown = self._grown(tried, best)
            if grown == tried:
                break
            tried = grown
        return Outcome(
            best={entry: RATES[k] for entry, k in best.items()},
            tried={
                entry: {RATES[k]: _mean(found[entry, k]) for k in sorted(ks)}
                for entry, ks in tried.items()
            },
            finals={
                entry: {RATES[k]: _mean(seeded[entry, k]) for k in sorted(ks)}
                for entry, ks in final.items()
            },
            tests={entry: seeded[entry, k] for entry, k in best.items()},
        )

    def _results(
        self, runner: Runner, rates: Mapping[Entry, Iterable[int]], seeds: Sequence[int]
    ) -> dict[tuple[Entry, int], list[dict[str, Any]]]:
        wanted = [(entry, k) for entry, ks in rates.items() for k in sorted(ks)]
        jobs = [self.job(*entry, RATES[k], seed) for entry, k in wanted for seed in seeds]
        names = [name for (name, _), _ in wanted for _ in seeds]
        results = [
            {"seed": job.seed, "steps": job.steps, **self.view(name, result)}
            for name, job, result in zip(
                names, jobs, runner.results(jobs, _validation), strict=True
            )
        ]
        return {key: results[k * len(seeds) :][: len(seeds)] for k, key in enumerate(wanted)}

    def _grown(
        self, tried: Mapping[Entry, set[int]], best: Mapping[Entry, int]
    ) -> dict[Entry, set[int]]:
        return {
            entry: ks if entry in self.known else ks | self._around(best[entry])
            for entry, ks in tried.items()
        }

    def _nearest(self, entry: Entry) -> set[int]:
        first = self.known.get(entry) or self.first(*entry)
        start = min(range(len(RATES)), key=lambda k: abs(RATES[k] / first - 1))
        tuned = self.reach and entry not in self.known
        return {start} | {k for k in (start - 1, start + 1) if tuned}

    def _around(self, best: int) -> set[int]:
        around = range(best - self.reach, best + self.reach + 1)
        return {k for k in around if 0 <= k < len(RATES)}


@dataclass(frozen=True)
class Outcome:
    """The best rate of every entry, and what it was chosen by.

    `tried` is validation of the first seed at every rate tried, `finals` the mean over all seeds at
    the rates that all were trained at, `tests` every seed's result at the best.
    """

    best: Mapping[Entry, float]
    tried: Mapping[Entry, Mapping[float, float]]
    finals: Mapping[Entry, Mapping[float, float]]
    tests: Mapping[Entry, list[dict[str, Any]]]

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """For each cell and objective: rate, steps, mean and range over seeds on test."""
        rows: dict[str, dict[str, dict[str, Any]]] = {}
        for (name, cell), results in self.tests.items():
            recalls = [result["test"] for result in results]
            rows.setdefault(cell, {})[name] = {
                "lr": self.best[name, cell],
                "steps": results[0]["steps"],
                "mean": fmean(recalls),
                "range": [min(recalls), max(recalls)],
                "image_to_text": fmean(r["test_image_to_text"] for r in results),
                "text_to_image": fmean(r["test_text_to_image"] for r in results),
            }
        return rows

    def rates_tried(self) -> list[dict[str, Any]]:
        """Every rate that was tried, with what it gave on validation by the first seed."""
        return [
            {
                "objective": name,
                "cell": cell,
                "lr": lr,
                "validation": recall,
                **({"mean": finals[lr]} if lr in finals else {}),
            }
            for (name, cell), by in self.tried.items()
            for finals in [self.finals[name, cell]]
            for lr, recall in by.items()
        ]

    def runs(self) -> list[dict[str, Any]]:
        """Raw figures of every final run."""
        return [
            {"objective": name, "cell": cell, "lr": self.best[name, cell], **result}
            for (name, cell), results in self.tests.items()
            for result in results
        ]

    def table(self, title: str) -> Table:
        """The summary for people, with our ratio to the better rival where both take part."""
        table = Table(title=title, title_justify="left")
        for heading in ("cell", "objective", "learning rate", "mean", "range", "to rival"):
            table.add_column(heading, justify="right")
        summary = self.summary()
        for cell, rows in summary.items():
            contested = "tijepa" in rows and any(name in rows for name in RIVALS)
            ratio = f"{ratios({cell: rows})[cell]:.2f}" if contested else ""
            for name, row in rows.items():
                low, high = (100 * bound for bound in row["range"])
                table.add_row(
                    cell,
                    name,
                    f"{row['lr']:.2e}",
                    f"{100 * row['mean']:.1f} %",
                    f"{low:.1f} to {high:.1f} %",
                    ratio if name == "tijepa" else "",
                )
        return table


def ratios(
    summary: Mapping[str, Mapping[str, Mapping[str, Any]]], rivals: Sequence[str] = RIVALS
) -> dict[str, float]:
    """For each cell our mean over that of the best of `rivals` that take part."""
    return {
        cell: rows["tijepa"]["mean"]
        / max(1e-9, *(rows[name]["mean"] for name in rivals if name in rows))
        for cell, rows in summary.items()
    }


def losses(outcome: Outcome, *, centred: bool = True) -> dict[str, dict[str, float]]:
    """What a badly chosen rate costs: for each cell and objective 1 − mean / highest validation.

    Both are of the first seed. The mean is over a range of 16 around the best rate: from a quarter
    of it to four times it, or,
    not `centred`, over that of the ranges of tried rates with the best one in them in which the
    objective loses least. A plateau with a cliff behind it looks worse by the first than it is.
    """
    found: dict[str, dict[str, float]] = {}
    for (name, cell), by in outcome.tried.items():
        best = outcome.best[name, cell]
        lowest = [best / 4]
        if not centred:  # further ranges that hold the best rate and were tried whole
            whole = (lr for lr in by if any(15 * lr <= high <= 17 * lr for high in by))
            lowest += [lr for lr in whole if best / 17 <= lr <= best]
        means = [fmean(r for lr, r in by.items() if low / 1.1 <= lr <= low * 17) for low in lowest]
        found.setdefault(cell, {})[name] = 1 - max(means) / max(1e-9, *by.values())
    return found


def _mean(results: Iterable[Mapping[str, Any]]) -> float:
    return fmean(float(result["validation"]) for result in results)


def _validation(result: dict[str, Any]) -> str:
    shown = f"validation {100 * result['validation']:.1f} %, test {100 * result['test']:.1f} %"
    return shown + (f", diverged at step {result['diverged']}" if "diverged" in result else "")
