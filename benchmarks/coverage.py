"""Coverage: how often the 95% intervals of `surefoot.statistics`, and others, hold the truth, of scores with
known truth.

    python benchmarks/coverage.py                  # everything; some half an hour on one core
    python benchmarks/coverage.py --quick          # few simulations, as a check that it runs
    python benchmarks/coverage.py --methods expanded --designs one-task --simulations 10000
    python benchmarks/coverage.py --json FILE      # all figures, for other programs

A simulation draws the scores of so many seeds and computes every interval of their interquartile mean. The
truth is the interquartile mean of four million scores. Scores are normal (standard deviation 1), skewed
(log-normal, σ = 1) or have two humps (half of the seeds 6 standard deviations above the others).

    one-task    scores [seed 1]
    suite       5 fixed tasks whose means differ by up to 2; every task has seeds of its own
    family      20 sampled tasks (standard deviation 1); every seed is rated on each of them (with noise, 0.5)
    3-tasks     3 of them, and seeds and noise a tenth as far apart; 5-tasks the same with 5
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import machine, print_table, write_json
from intervals import METHODS, Bootstrap

from surefoot.statistics import difference, improvement_interval, interquartile_mean

SEEDS = (3, 5, 10, 30)
SHIFT = 1.0
"""How much higher the second kind of runs scores, where two are compared."""
LARGE = 4_000_000


def normal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=size)


def skewed(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return rng.lognormal(size=size)


def two_humps(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=size) + 6 * (rng.random(size) < 0.5)


Shape = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SHAPES: dict[str, Shape] = {"normal": normal, "skewed": skewed, "two-humped": two_humps}


class Design(NamedTuple):
    """How scores come about."""

    scheme: str
    tasks: int
    draw: Callable[[np.random.Generator, Shape, int, int], np.ndarray]
    """From shape, seeds and tasks: scores `[seed task]`."""
    spread: float = 1.0
    """Of a family, how far seeds are apart; tasks are 1 apart."""


def independent(rng: np.random.Generator, shape: Shape, seeds: int, tasks: int) -> np.ndarray:
    return np.linspace(-1, 1, tasks) * (tasks > 1) + shape(rng, (seeds, tasks))


def crossed(
    rng: np.random.Generator, shape: Shape, seeds: int, tasks: int, spread: float = 1.0
) -> np.ndarray:
    of_seeds, of_tasks = shape(rng, (seeds, 1)), rng.normal(size=(1, tasks))
    return of_tasks + spread * (of_seeds + 0.5 * rng.normal(size=(seeds, tasks)))


DESIGNS = {
    "one-task": Design("seeds-within-tasks", 1, independent),
    "suite": Design("seeds-within-tasks", 5, independent),
    "family": Design("seeds-and-tasks", 20, crossed),
    "3-tasks": Design("seeds-and-tasks", 3, partial(crossed, spread=0.1), 0.1),
    "5-tasks": Design("seeds-and-tasks", 5, partial(crossed, spread=0.1), 0.1),
}


@cache
def truth(design: Design, shape: Shape) -> float:
    """The interquartile mean of very many scores; of a family, each of another seed and task."""
    rng = np.random.default_rng(1)
    if design.scheme == "seeds-and-tasks":
        of_seeds = shape(rng, (LARGE,)) + 0.5 * rng.normal(size=LARGE)
        scores = rng.normal(size=LARGE) + design.spread * of_seeds
        return float(interquartile_mean(scores[:, None]))
    return float(interquartile_mean(design.draw(rng, shape, LARGE // design.tasks, design.tasks)))


def measure(
    design: Design, shape: Shape, seeds: int, methods: Sequence[str], simulations: int, resamples: int
) -> dict[str, Any]:
    """For each method the share of simulations whose interval holds the truth, and the median width."""
    rng = np.random.default_rng([seeds, design.tasks])
    true = truth(design, shape)
    found: dict[str, list[tuple[bool, float]]] = {method: [] for method in methods}
    for simulation in range(simulations):
        scores = design.draw(rng, shape, seeds, design.tasks)
        drawn = Bootstrap.of(scores, design.scheme, resamples, simulation)
        for method in methods:
            low, high = METHODS[method](drawn, 0.025)
            found[method].append((low <= true <= high, high - low))
    return {
        method: {
            "coverage": float(np.mean([held for held, _ in rows])),
            "width": float(np.median([w for _, w in rows])),
        }
        for method, rows in found.items()
    }


def measure_comparison(shape: Shape, seeds: int, simulations: int, resamples: int) -> dict[str, float]:
    """The coverage of the intervals of two kinds of runs on one task, one `SHIFT` above the other: of the
    difference, of the mean of paired differences, and of the probability of improvement."""
    rng = np.random.default_rng(seeds)
    several = np.random.default_rng(2)
    above = shape(several, (LARGE,)) + SHIFT > shape(several, (LARGE,))
    better = float(above.mean())
    held = {"difference": 0, "paired difference": 0, "improvement": 0}
    for simulation in range(simulations):
        ours, theirs = SHIFT + shape(rng, (seeds, 1)), shape(rng, (seeds, 1))
        apart = difference(ours, theirs, resamples=resamples, seed=simulation)
        paired = difference(ours, theirs, paired=True, resamples=resamples, seed=simulation)
        improves = improvement_interval(ours, theirs)
        held["difference"] += apart.low <= SHIFT <= apart.high
        # The difference of two of a kind is symmetric, so that its interquartile mean is the shift.
        held["paired difference"] += paired.low <= SHIFT <= paired.high
        held["improvement"] += improves.low <= better <= improves.high
    return {name: count / simulations for name, count in held.items()}


def main() -> None:
    """Measures, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000, metavar="N")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--designs", nargs="+", choices=[*DESIGNS, "comparison"], default=[*DESIGNS, "comparison"]
    )
    parser.add_argument("--quick", action="store_true", help="10 simulations of 200 resamples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args()
    simulations, resamples = (10, 200) if options.quick else (options.simulations, options.resamples)
    figures: dict[str, Any] = {"machine": machine(), "simulations": simulations, "resamples": resamples}
    cells = [(name, seeds) for name in SHAPES for seeds in SEEDS]
    for chosen in options.designs:
        if chosen == "comparison":
            rows = {
                f"{name}, {seeds} seeds": measure_comparison(SHAPES[name], seeds, simulations, resamples)
                for name, seeds in cells
            }
            columns = [[f"{value:.1%}" for value in row.values()] for row in rows.values()]
            heads = list(next(iter(rows.values())))
        else:
            rows = {
                f"{name}, {seeds} seeds": measure(
                    DESIGNS[chosen], SHAPES[name], seeds, options.methods, simulations, resamples
                )
                for name, seeds in cells
            }
            columns = [
                [f"{x['coverage']:.1%} ({x['width']:.1f})" for x in row.values()] for row in rows.values()
            ]
            heads = options.methods
        print_table(
            f"{chosen}: coverage of 95% intervals (and their median width), {simulations} simulations",
            ["scores", *heads],
            [[name, *cells_of] for name, cells_of in zip(rows, columns, strict=True)],
        )
        figures[chosen] = rows
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
