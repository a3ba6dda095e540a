"""RL² on bandits, side by side with the usual way of writing it in PyTorch.

    python benchmarks/rl2.py                  # both problems; some minutes
    python benchmarks/rl2.py --quick          # a small problem; half a minute
    python benchmarks/rl2.py --json FILE      # all figures, for other programs

Both sides have the same sizes and settings and train in turns, in single precision and on all cores. PyTorch
plays its trials all at once, or one at a time. The last column is the mean total reward of a trial in the
last batch, after as many iterations on each side. Without PyTorch, surefoot is measured alone.
"""

import argparse
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import Any

from harness import (
    Worker,
    harness_options,
    interleaved,
    machine,
    median,
    median_ratio,
    print_table,
    write_json,
)
from rl2_problem import PROBLEMS, QUICK, Problem

SUREFOOT = "surefoot"
WAYS = ("all at once", "one at a time")
_FIRST = 1
"""Iterations before the first that is timed: the one that compiles."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small problem and two rounds")
    harness_options(parser)
    parser.add_argument(
        "--iterations", type=int, default=2, metavar="N", help="in one timing (default: %(default)s)"
    )
    options = parser.parse_args()
    rounds = options.repeats or (2 if options.quick else 7)
    if find_spec("torch") is None:
        print("PyTorch is not installed, so its rows are absent; `pip install torch` adds them.\n")
    figures: dict[str, Any] = {"machine": machine(), "problems": {}}
    for name, problem in (QUICK if options.quick else PROBLEMS).items():
        figures["problems"][name] = measure(name, problem, options.iterations, rounds)
    write_json(options.json, figures)
    return 0


def measure(name: str, problem: Problem, iterations: int, rounds: int) -> dict[str, Any]:
    """All figures of one problem, printed."""
    with ExitStack() as stack:
        sides = {SUREFOOT: stack.enter_context(Worker("rl2_surefoot:Side", problem))}
        for way in WAYS if find_spec("torch") else ():
            sides[f"PyTorch, {way}"] = stack.enter_context(Worker("rl2_torch:Side", problem, way))
        for side in sides.values():
            side.call("iterate", _FIRST)
        calls = {label: partial(side.call, "iterate", iterations) for label, side in sides.items()}
        replies = interleaved(calls, rounds)
    rows, figures = [], {}
    for label, timed in replies.items():
        figures[label] = {
            "steps_per_second": iterations * problem.steps / median(timed),
            "ratio": median_ratio(timed, replies[SUREFOOT]),
            "return": timed[-1].value,
        }
        row = figures[label]
        ratio = f"{row['ratio']:.1f}"
        rows.append((label, f"{row['steps_per_second']:,.0f}", ratio, f"{row['return']:.2f}"))
    title = f"RL² on bandits, {problem.trials} trials of {name}, {problem.units} units"
    print_table(title, ("", "steps/s", "time / surefoot's", "return"), rows)
    return {"problem": asdict(problem), "sides": figures}


if __name__ == "__main__":
    raise SystemExit(main())
