"""A whole iteration of MAML-TRPO, from tasks to the improved policy: where the time goes, and how it grows.

    python benchmarks/iteration.py                  # everything; some ten minutes
    python benchmarks/iteration.py --quick          # a small problem; half a minute
    python benchmarks/iteration.py --json FILE      # all figures, for other programs

Parts are timed in place: the library's own functions are watched while it iterates, and each is waited for.
The iteration without a watch stands beside their sum. It needs `pip install 'surefoot[mujoco]'`.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

from harness import (
    MIB,
    Reply,
    Worker,
    cores,
    harness_options,
    interleaved,
    machine,
    median as median_of,
    median_ratio,
    print_table,
    write_json,
)
from iteration_problem import UNDER_WAY, WHOLE, Case

QUICK = {"tasks": 2, "episodes": 4, "steps": 10}
MOST_OVERHEAD = 0.45
"""The share of an iteration in which no physics need be under way."""


def main() -> int:
    options = parse()
    missing = [name for name in ("mujoco", "gymnasium") if find_spec(name) is None]
    if missing:
        print(f"Not installed: {', '.join(missing)}; `pip install 'surefoot[mujoco]'` adds them.")
        return 1
    base = Case(options.preset, options.tasks, options.episodes, options.steps)
    figures: dict[str, Any] = {"machine": machine(), "problem": asdict(base)}
    figures["cases"] = measure(cases(base, options), options.repeats)
    write_json(options.json, figures)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--preset", default=Case.preset, help=f"of MAML-TRPO in MuJoCo (default: {Case.preset})")
    add("--quick", action="store_true", help="a small problem, two rounds and fewer cases")
    harness_options(parser)
    for name in ("tasks", "episodes", "steps"):
        default = getattr(Case, name)
        add(f"--{name}", type=int, metavar="N", help=f"(default: {default}, or {QUICK[name]} with --quick)")
    add("--workers", type=int, nargs="*", metavar="N", help="of the process sampler (default: 1, and cores)")
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.quick else 7)
    for name, small in QUICK.items():
        if getattr(options, name) is None:
            setattr(options, name, small if options.quick else getattr(Case, name))
    if options.workers is None:
        options.workers = [cores()] if options.quick else sorted({1, cores()})
    return options


def cases(base: Case, options: argparse.Namespace) -> dict[str, Case]:
    """The whole, with fewer threads, tasks and episodes, and with processes."""
    found = {f"in process, {cores()} threads": replace(base, threads=cores())}
    if not options.quick:
        found["in process, 1 thread"] = replace(base, threads=1)
        for factor in (2, 4):
            found[f"a {_PARTS[factor]} of the tasks"] = replace(base, tasks=max(1, base.tasks // factor))
            found[f"a {_PARTS[factor]} of the episodes"] = replace(
                base, episodes=max(2, base.episodes // factor)
            )
    for workers in options.workers:
        found[f"{workers} worker process{'es' if workers > 1 else ''}"] = replace(base, workers=workers)
    return found


_PARTS = {2: "half", 4: "quarter"}


def measure(cases: Mapping[str, Case], repeats: int) -> dict[str, Any]:
    """All figures, printed."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Worker("iteration_surefoot:Side", x)) for name, x in cases.items()}
        first = {name: side.call("run") for name, side in sides.items()}
        whole = {name: partial(side.call, "run") for name, side in sides.items()}
        watched = {f"{name}, watched": partial(side.call, "parts") for name, side in sides.items()}
        replies = interleaved({**whole, **watched}, repeats)
        for side in sides.values():
            side.call("close")
    base = next(iter(cases))
    figures = {
        name: {
            "case": asdict(case),
            "first_seconds": first[name].seconds,
            "seconds": median_of(replies[name]),
            "steps_per_second": case.sampled / median_of(replies[name]),
            "of_base": median_ratio(replies[name], replies[base]),
            "peak": max(reply.peak for reply in [first[name], *replies[name]]),
            "all_seconds": [reply.seconds for reply in replies[name]],
            **shares(replies[f"{name}, watched"]),
        }
        for name, case in cases.items()
    }
    print_wholes(cases, figures)
    for name, case in cases.items():
        print_parts(name, case, figures[name])
    return figures


def shares(watched: Sequence[Reply]) -> dict[str, Any]:
    """Of each part the median seconds, all threads together, and the median of its share of all parts in a
    round, the longest first; and the share of the iteration in which physics was under way."""
    names = {name for reply in watched for name in reply.value} - {WHOLE, UNDER_WAY}
    parts = {
        name: {
            "seconds": median(reply.value.get(name, 0.0) for reply in watched),
            "share": median(reply.value.get(name, 0.0) / _busy(reply, names) for reply in watched),
        }
        for name in names
    }
    under_way = median(reply.value[UNDER_WAY] / reply.value[WHOLE] for reply in watched)
    return {
        "parts": dict(sorted(parts.items(), key=lambda part: -part[1]["seconds"])),
        "under_way": under_way,
    }


def _busy(reply: Reply, names: Iterable[str]) -> float:
    """Seconds of all parts in all threads."""
    return sum(reply.value.get(name, 0.0) for name in names)


def print_wholes(cases: Mapping[str, Case], figures: Mapping[str, Any]) -> None:
    rows = [
        [
            name,
            f"{case.tasks}×{case.episodes}×{case.steps}",
            f"{x['seconds']:.2f}",
            f"{x['steps_per_second']:,.0f}",
            f"{x['of_base']:.2f}",
            f"{x['first_seconds']:.1f}",
            f"{x['peak'] / MIB:.0f}",
        ]
        for (name, case), x in zip(cases.items(), figures.values(), strict=True)
    ]
    columns = ["", "size", "seconds", "steps a second", "× the first row", "first time", "peak MiB"]
    print_table("One iteration, nothing watched: medians; the first time compiles", columns, rows)


def print_parts(name: str, case: Case, figures: Mapping[str, Any]) -> None:
    parts = figures["parts"]
    rows = [[part, f"{1e3 * x['seconds']:.1f}", f"{100 * x['share']:.1f}"] for part, x in parts.items()]
    print_table(f"Where the time goes: {name}", ["", "ms", "% of all"], rows)
    if case.workers:
        print("Physics, policy evaluation and recording are in the workers, behind the waiting.\n")
        return
    print("With several threads the parts of sampling are those of two, side by side.")
    overhead = 1 - figures["under_way"]
    verdict = "reached" if overhead <= MOST_OVERHEAD else "missed"
    aim = f"at most {100 * MOST_OVERHEAD:.0f}% is aimed at: {verdict}"
    print(f"No physics is under way in {100 * overhead:.0f}% of the iteration; {aim}.\n")


if __name__ == "__main__":
    sys.exit(main())
