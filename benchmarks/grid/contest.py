"""Objectives against each other: rates tuned on validation, then every seed on test.

A cell is what is equal for all objectives in one comparison: a batch size, a number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from grid.job import Job
from grid.runner import Runner

__all__ = ["RATES", "RIVALS", "Contest", "Outcome", "best_rival", "losses", "ratios"]

RATES = tuple(1.25e-4 * 2**k for k in range(-4, 9))  # 7.8e-6 to 3.2e-2
RIVALS = ("clip", "siglip")
Entry = tuple[str, str]  # objective, cell


@dataclass(frozen=True)
class Contest:
    """Who takes part, and how. `job(objective, cell, lr, seed)` makes a run.

    The search of an entry's rate starts at `first` and its neighbours, and walks on until the best
    one has been tried with `reach` rates on either side, each twice the last: with two the rates
    tried around it span a factor of 16. 0 takes the first as it is.
    """

    objectives: Sequence[str]
    cells: Sequence[str]
    job: Callable[[str, str, float, int], Job]
    first: Callable[[str, str], float]
    seeds: Sequence[int]
    reach: int = 2

    @property
    def entries(self) -> list[Entry]:
        """Every objective in every cell."""
        return [(name, cell) for cell in self.cells for name in self.objectives]

    def held(self, runner: Runner) -> Outcome:
        """Tune, then train every seed at the best rate."""
        tried = {entry: self._nearest(entry) for entry in self.entries}
        while True:
            wanted = [(entry, k) for entry in self.entries for k in sorted(tried[entry])]
            jobs = [self.job(*entry, RATES[k], 0) for entry, k in wanted]
            found = dict(zip(wanted, runner.results(jobs, _validation), strict=True))
            best = {
                entry: max(tried[entry], key=lambda k, e=entry: found[e, k]["validation"])
                for entry in self.entries
            }
            grown = {entry: tried[entry] | self._around(best[entry]) for entry in self.entries}
            if grown == tried:
                break
            tried = grown
        finals = [
            (entry, self.job(*entry, RATES[best[entry]], seed))
            for entry in self.entries
            for seed in self.seeds
        ]
        results = runner.results([job for _, job in finals], _validation)
        tests: dict[Entry, list[dict[str, Any]]] = {}
        for (entry, job), result in zip(finals, results, strict=True):
            tests.setdefault(entry, []).append({"seed": job.seed, "steps": job.steps, **result})
        return Outcome(
            best={entry: RATES[k] for entry, k in best.items()},
            tried={
                entry: {RATES[k]: float(found[entry, k]["validation"]) for k in sorted(ks)}
                for entry, ks in tried.items()
            },
            tests=tests,
        )

    def _nearest(self, entry: Entry) -> set[int]:
        start = min(range(len(RATES)), key=lambda k: abs(RATES[k] / self.first(*entry) - 1))
        return {start} | {k for k in (start - 1, start + 1) if self.reach}

    def _around(self, best: int) -> set[int]:
        around = range(best - self.reach, best + self.reach + 1)
        return {k for k in around if 0 <= k < len(RATES)}


@dataclass(frozen=True)
class Outcome:
    """The best rate of every entry, validation at every rate tried, every seed's result."""

    best: Mapping[Entry, float]
    tried: Mapping[Entry, Mapping[float, float]]
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
        """Every rate that was tried, with what it gave on validation."""
        return [
            {"objective": name, "cell": cell, "lr": lr, "validation": recall}
            for (name, cell), by in self.tried.items()
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


def best_rival(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The contrastive objective with the higher mean."""
    return max((name for name in RIVALS if name in rows), key=lambda name: rows[name]["mean"])


def ratios(
    summary: Mapping[str, Mapping[str, Mapping[str, Any]]], rival: str | None = None
) -> dict[str, float]:
    """For each cell our mean over that of `rival`, by default the better contrastive one."""
    return {
        cell: rows["tijepa"]["mean"] / max(1e-9, rows[rival or best_rival(rows)]["mean"])
        for cell, rows in summary.items()
    }


def losses(outcome: Outcome, *, centred: bool = True) -> dict[str, dict[str, float]]:
    """What a badly chosen rate costs: for each cell and objective 1 − mean / best of validation.

    The mean is over a range of 16 around the best rate: from a quarter of it to four times it, or,
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
        found.setdefault(cell, {})[name] = 1 - max(means) / max(1e-9, by[best])
    return found


def _validation(result: dict[str, Any]) -> str:
    shown = f"validation {100 * result['validation']:.1f} %, test {100 * result['test']:.1f} %"
    return shown + (f", diverged at step {result['diverged']}" if "diverged" in result else "")
