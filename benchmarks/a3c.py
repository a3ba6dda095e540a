"""A3C by the number of its workers: speed, staleness and return, beside the synchronous twin.

    python benchmarks/a3c.py                                        # CartPole
    python benchmarks/a3c.py --preset inverted-pendulum/a3c         # a continuous task
    python benchmarks/a3c.py --workers 1 2 --seeds 2 --iterations 3 # a small one, to try it

Prints for each number of workers the steps of the environment a second (the median over iterations after the
first two, which compile), the mean and the largest staleness, and the return after training: its mean and
standard deviation over seeds. `--json` writes them to a file. Each run has the same number of updates.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import tyro

from surefoot.experiment import Config, Learner, preset
from surefoot.samplers import Processes

_COMPILING = 2
"""Iterations at the beginning that are not timed."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    preset: str = "cartpole/a3c"
    workers: tuple[int, ...] = (1, 2, 4)
    """Numbers of worker processes."""
    seeds: int = 5
    """Number of seeds of each."""
    iterations: int | None = None
    """Number of iterations, by default the preset's."""
    json: Path | None = None
    """A file for the figures."""


def main(options: Options) -> None:
    """Trains and prints the table."""
    base = preset(options.preset)
    a3c: Any = base.algorithm
    base = replace(base, iterations=options.iterations or base.iterations)
    rows = []
    print("workers  kind            steps/s  staleness (largest)  return (sd)")
    for workers in options.workers:
        for synchronous in (False, True):
            algorithm: Any = replace(a3c, synchronous=synchronous)
            config = replace(base, algorithm=algorithm, sampler=Processes(workers=workers))
            runs = [train(replace(config, seed=seed)) for seed in range(options.seeds)]
            rows.append(row := summary(workers, synchronous, runs))
            kind = "synchronous" if synchronous else "asynchronous"
            print(
                f"{workers:7}  {kind:14}{row['steps_per_second']:9.0f}  "
                f"{row['staleness']:9.2f} ({row['staleness_max']:.0f})".ljust(55)
                + f"{row['mean']:8.1f} ({row['sd']:.1f})",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def train(config: Config) -> dict[str, Any]:
    """One run: the metrics of every iteration, and the return of the trained policy."""
    with Learner(config) as learner:
        learner.train(progress=False)
        return {"history": learner.history, "return": float(learner.evaluate().returns.mean())}


def summary(workers: int, synchronous: bool, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a row."""
    timed = [row for run in runs for row in run["history"][_COMPILING:]]
    returns = [run["return"] for run in runs]
    return {
        "workers": workers,
        "synchronous": synchronous,
        "steps_per_second": median(row["steps_per_second"] for row in timed),
        "staleness": mean(row["staleness"] for row in timed),
        "staleness_max": max(row["staleness_max"] for row in timed),
        "returns": returns,
        "mean": mean(returns),
        "sd": float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
