"""Where is the red circle? The pointing game on scenes, tijepa beside CLIP.

Both are trained on the same encoders with patches of 8 pixels, in the same order of pairs, for the
same steps. Every object of the held-out scenes is asked for by colour and shape; a hit is a map of
8 x 8 cells whose lowest cell has its centre in the object's box. Two maps for each model:

- `opening`: the energy of what a small opening shows (`Embedder.energy_map`);
- `patches`: the energy of each patch token, sent through the image head in place of the pooled
  token; for CLIP that is one minus the patch-text cosine.

`tijepa` is the mean over seeds of ours by `opening`, `clip` that of CLIP by `patches`; `by_map`
holds all four, so that what the map gives and what the training gives can be told apart.

    python benchmarks/pointing.py [--quick] [--steps N] [--processes 2] [--out FILE]

The runs are those of `composition.py`: what one has trained, the other does not train again.
"""

from __future__ import annotations

import os
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import meaning
from grid.job import configuration
from grid.options import parser, runner, written

REPORTED = {"tijepa": "opening", "clip": "patches"}


def main() -> None:
    options_of = parser("pointing", __doc__)
    meaning.add_options(options_of)
    options = options_of.parse_args()
    jobs = meaning.jobs_of(options)
    with runner(
        options, meaning.run, meaning.keep(options), base=meaning.BASE, journal="meaning"
    ) as made:
        results = meaning.results_of(made, jobs)
        payload: dict[str, Any] = {
            "seeds": [job.seed for job in jobs["tijepa"]],
            "by_map": {},
            "range": {},
        }
        for name, of_one in results.items():
            for kind in ("opening", "patches"):
                shares = [float(result["pointing"][kind]["accuracy"]) for result in of_one]
                payload["by_map"].setdefault(name, {})[kind] = fmean(shares)
                if REPORTED[name] == kind:
                    payload[name], payload["range"][name] = (
                        fmean(shares),
                        [min(shares), max(shares)],
                    )
                made.console.print(
                    f"{name:>7} by {kind}: {100 * fmean(shares):.1f} % in the box"
                    f" ({100 * min(shares):.1f} to {100 * max(shares):.1f} %)",
                    highlight=False,
                )
        game = results["tijepa"][0]["pointing"]["opening"]
        payload |= {name: game[name] for name in ("chance", "box_area", "reachable", "queries")}
        payload |= {
            "steps": options.steps,
            "runs": results,
            "configuration": {
                name: configuration(of[0], meaning.BASE).to_yaml() for name, of in jobs.items()
            },
        }
        path = written(options, payload)
        made.console.print(
            f"chance {100 * payload['chance']:.1f} %, {payload['queries']} objects;"
            f" written to {path}",
            highlight=False,
        )


if __name__ == "__main__":
    main()
