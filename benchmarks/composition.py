"""New combinations and false captions: tijepa beside CLIP on scenes.

On the test split and on the novel split, whose every scene holds a combination of colour and shape
that training never showed:

- retrieval: recall at 1 of 500, mean of both directions;
- hard negatives: how often the true caption has less energy than one made false by exchanging
  attributes, by the opposite predicate, or by exchanging subject and object (chance 50 %).

    python benchmarks/composition.py [--quick] [--steps N] [--processes 2] [--out FILE]

The runs are those of `pointing.py`: what one has trained, the other does not train again.
"""

from __future__ import annotations

import os
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import meaning
from grid.job import configuration
from grid.options import parser, runner, written


def main() -> None:
    options_of = parser("composition", __doc__)
    meaning.add_options(options_of)
    options = options_of.parse_args()
    jobs = meaning.jobs_of(options)
    with runner(
        options, meaning.run, meaning.keep(options), base=meaning.BASE, journal="meaning"
    ) as made:
        results = meaning.results_of(made, jobs)
        payload: dict[str, Any] = {
            "seeds": [job.seed for job in jobs["tijepa"]],
            "steps": options.steps,
            "asked": meaning.ASKED,
        }
        for name, of_one in results.items():
            judged = [result["composition"] for result in of_one]
            for split in meaning.SPLITS:
                for key in judged[0][split]:
                    shares = [one[split][key] for one in judged]
                    mean, low, high = fmean(shares), min(shares), max(shares)
                    row = payload.setdefault(name, {}).setdefault(split, {})
                    row[key] = {"mean": mean, "range": [low, high]}
                    made.console.print(
                        f"{name:>7} {split:>5} {key:<12} {100 * mean:5.1f} %"
                        f" ({100 * low:.1f} to {100 * high:.1f} %)",
                        highlight=False,
                    )
        payload |= {
            "runs": results,
            "configuration": {
                name: configuration(of[0], meaning.BASE).to_yaml() for name, of in jobs.items()
            },
        }
        path = written(options, payload)
        made.console.print(f"written to {path}", highlight=False)


if __name__ == "__main__":
    main()
