"""Training on one task, side by side with Stable-Baselines3's PPO and sb3-contrib's TRPO.

    python benchmarks/single_task.py                  # everything
    python benchmarks/single_task.py --quick          # small problems; a minute or two
    python benchmarks/single_task.py --json FILE      # all figures, for other programs

Both sides have the same settings: environments, steps a batch, epochs, minibatches, networks, conjugate
gradient. Each lives in a process of its own, and they train in turns. Without the peers, surefoot is measured
alone. On surefoot's side environments come from gymnax and from MuJoCo: `pip install
'surefoot[gymnax,mujoco]'`.
"""

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness import (
    Reply,
    Worker,
    cores,
    harness_options,
    interleaved,
    machine,
    median,
    median_ratio,
    print_table,
    write_json,
)
from single_task_problem import PROBLEMS, QUICK, Problem

PEERS = ("torch", "stable_baselines3", "sb3_contrib")
SUREFOOT = "surefoot"
COMPILED = "surefoot, compiled before"
LEAST = 5.0
"""How many times as fast as the peer training in MuJoCo is to be."""
PART_REPEATS = 5
"""Calls of a part of the iteration that are timed together: some take less than a millisecond."""

Replies = dict[str, list[Reply]]


class Way(NamedTuple):
    """How the peer is run."""

    threads: int
    """PyTorch's."""
    processes: int
    """Of environments; 0 if they are stepped in a loop."""

    def __str__(self) -> str:
        return f"{self.threads} and {self.processes} processes" if self.processes else str(self.threads)


def main() -> int:
    options = parse()
    missing = [name for name in PEERS if find_spec(name) is None]
    if missing:
        print(
            f"The peer is not installed ({', '.join(missing)}), so its rows are absent; "
            "`pip install stable-baselines3 sb3-contrib` adds them.\n"
        )
    threads = [] if missing else sorted({1, cores()})
    problems = chosen(options)
    figures: dict[str, Any] = {"machine": machine(), "problems": {}}
    for problem in problems:
        figures["problems"][problem.preset] = measure(problem, threads, options)
    write_json(options.json, figures)
    return 0


def chosen(options: argparse.Namespace) -> list[Problem]:
    """Those that are asked for and can be run."""
    known = QUICK if options.quick else PROBLEMS
    problems = [problem for problem in known if problem.preset in (options.only or [problem.preset])]
    if find_spec("mujoco") is None and any(problem.in_mujoco for problem in problems):
        print(
            "MuJoCo is not installed, so half-cheetah's tables are absent; "
            "`pip install 'surefoot[mujoco]'` adds them.\n"
        )
        problems = [problem for problem in problems if not problem.in_mujoco]
    return problems


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", metavar="PRESET", help="of cartpole/ppo, cartpole/trpo, pendulum/ppo, …")
    add("--quick", action="store_true", help="small problems and two rounds")
    harness_options(parser)
    add("--whole-runs", type=int, metavar="N", help="rounds of whole runs (default: 3, or 1; 0 for none)")
    add("--whole-steps", type=int, default=100_000, metavar="N", help="of a whole run (default: 100,000)")
    add("--seeds", type=int, metavar="N", help="trained in one program (default: 16, or 2; 0 for none)")
    add(
        "--iterations",
        type=int,
        metavar="N",
        help="of surefoot in one timing; a fifth of them of the peer (default: 20, or 5 with --quick)",
    )
    options = parser.parse_args()
    defaults = {"repeats": (7, 2), "whole_runs": (3, 1), "seeds": (16, 2), "iterations": (20, 5)}
    for name, default in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, default[options.quick])
    return options


def measure(problem: Problem, threads: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one problem, printed as they come."""
    figures: dict[str, Any] = {"problem": asdict(problem)}
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("single_task_surefoot:Side", problem, options.iterations))
        sides = {SUREFOOT: ours}
        ways, figures["threads"] = fastest_ways(problem, threads)
        for way in ways:
            worker = Worker("single_task_sb3:Side", problem, *way)
            sides[peer(problem, way)] = stack.enter_context(worker)
        compiled = ours.call("compile")
        figures["compilation_seconds"] = compiled.seconds
        figures["training"] = training(problem, sides, options)
        print(f"surefoot's compilation, once: {compiled.seconds:.2f} s\n")
        figures["parts"] = parts(problem, ours, options)
        if options.seeds and problem.in_jax:
            figures["seeds"] = seeds(problem, ours, options)
        for way in ways:
            sides[peer(problem, way)].call("close")
    if options.whole_runs:
        figures["whole_run"] = whole_runs(problem, ways[0] if ways else None, options)
    return figures


def fastest_ways(problem: Problem, threads: list[int]) -> tuple[list[Way], dict[str, float]]:
    """The way in which the peer is fastest, and its seconds in all: on matrices of this size, threads that
    wait for one another can cost more than they help. MuJoCo's environments may also be in processes, one
    for each; then there is a fastest way with and one without, the faster first."""
    kinds = [0] if problem.in_jax else [0, problem.streams]
    seconds = {}
    for way in [Way(t, p) for p in kinds for t in threads]:
        with Worker("single_task_sb3:Side", problem, *way) as side:
            side.call("train", 1)
            seconds[way] = side.call("train", 1).seconds
            side.call("close")
    if seconds:
        tried = ", ".join(f"{x:.2f} s with {way}" for way, x in seconds.items())
        print(f"{problem.preset}: an iteration of the peer by PyTorch's threads: {tried}.\n")
    ways = sorted(seconds, key=seconds.__getitem__)
    best = [next(way for way in ways if way.processes == kind) for kind in kinds if ways]
    return sorted(best, key=seconds.__getitem__), {str(way): x for way, x in seconds.items()}


def peer(problem: Problem, way: Way) -> str:
    library = "Stable-Baselines3 PPO" if problem.rule == "ppo" else "sb3-contrib TRPO"
    name = f"{library}, {way.threads} thread{'s' if way.threads > 1 else ''}"
    return f"{name}, {way.processes} processes" if way.processes else name


def training(problem: Problem, sides: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    """Steady state: steps of the environment in a second of training, whatever is not training left out."""
    lengths = {name: options.iterations if name == SUREFOOT else options.iterations // 5 for name in sides}
    calls = {name: partial(side.call, "train", lengths[name]) for name, side in sides.items()}
    for call in calls.values():
        call()
    replies = interleaved(calls, options.repeats)
    figures = {}
    for name, of in replies.items():
        share = lengths[SUREFOOT] / lengths[name]
        figures[name] = {
            "seconds": median(of) / lengths[name],
            "steps_per_second": problem.batch * lengths[name] / median(of),
            "ratio": median_ratio(of, replies[SUREFOOT]) * share,
            "cpu_ratio": median_ratio(of, replies[SUREFOOT], "cpu_seconds") * share,
            "all_seconds": [reply.seconds / lengths[name] for reply in of],
        }
    rows = [
        [
            name,
            f"{x['steps_per_second']:,.0f}",
            f"{1e3 * x['seconds']:.1f}",
            f"{x['ratio']:.1f}",
            f"{x['cpu_ratio']:.1f}",
        ]
        for name, x in figures.items()
    ]
    title = f"{problem.preset}: {problem.streams} environments × {problem.steps} steps; medians"
    columns = [
        "compilation apart",
        "steps a second",
        "ms an iteration",
        "× surefoot's time",
        "× processor time",
    ]
    print_table(title, columns, rows)
    if not problem.in_jax:
        for name in filter(lambda name: "processes" in name, figures):
            verdict = "reached" if figures[name]["ratio"] >= LEAST else "missed"
            print(f"At least {LEAST:.0f} times as fast as its processes is aimed at: {verdict}.\n")
    return figures


def parts(problem: Problem, side: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """Where surefoot's iteration spends its time, each part compiled by itself, and the floor under it."""
    names = side.call("compile_parts").value
    rows_of_product = problem.batch // problem.minibatches
    width = problem.hidden[0]
    chain = 2000
    with Worker("meta_step_surefoot:Products", rows_of_product, width, chain) as products:
        calls = {name: partial(side.call, "part", name, PART_REPEATS) for name in names}
        whole = partial(side.call, "train", PART_REPEATS)
        replies = interleaved(
            {"iteration": whole, **calls, "products": partial(products.call, "run")}, options.repeats
        )
    rate = 2.0 * rows_of_product * width**2 * chain / median(replies.pop("products"))
    operations = problem.operations(side.call("attempts").value)
    seconds = {name: median(of) / PART_REPEATS for name, of in replies.items()}
    shares = {name: median_ratio(of, replies["iteration"]) for name, of in replies.items()}
    floor = {"operations": operations, "rate": rate, "seconds": operations / rate}
    rows = [[name, f"{1e3 * x:.2f}", f"{shares[name]:.2f}"] for name, x in seconds.items()]
    rows.append(["floor", f"{1e3 * floor['seconds']:.2f}", f"{floor['seconds'] / seconds['iteration']:.2f}"])
    print_table(f"{problem.preset}: parts of surefoot's iteration", ["", "ms", "of the iteration"], rows)
    print(
        f"Floor: {operations / 1e9:.2f} GFLOP in matrix products, at the {rate / 1e9:.0f} GFLOP/s of "
        f"[{rows_of_product} {width}]·[{width} {width}].\n"
    )
    return {"seconds": seconds, "shares": shares, "floor": floor}


def seeds(problem: Problem, side: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """What many seeds in one program cost against one."""
    count = options.seeds
    with Worker("single_task_surefoot:Seeds", problem, count) as many:
        calls = {"one": partial(side.call, "train", count), "many": partial(many.call, "train", 1)}
        many.call("train", 1)
        replies = interleaved(calls, options.repeats)
        compilation = many.started.seconds
    ratio = median_ratio(replies["many"], replies["one"])
    figures = {
        "seeds": count,
        "one_seconds": median(replies["one"]) / count,
        "many_seconds": median(replies["many"]),
        "ratio_to_one": ratio * count,
        "ratio_to_separate_runs": ratio,
        "compilation_seconds": compilation,
    }
    print(
        f"{problem.preset}: {count} seeds in one program take {ratio * count:.1f} × the time of one, "
        f"{ratio:.2f} × that of {count} runs one after the other "
        f"(an iteration: {1e3 * figures['many_seconds']:.0f} ms).\n"
    )
    return figures


def whole_runs(problem: Problem, fastest: Way | None, options: argparse.Namespace) -> dict[str, Any]:
    """From the start of the process to the trained policy: libraries, environments, compilation, training."""
    iterations = 5 if options.quick else -(-options.whole_steps // problem.batch)
    steps = iterations * problem.batch
    many = f"surefoot, {options.seeds} seeds in one program"
    with tempfile.TemporaryDirectory() as directory:
        ours = partial(surefoot_run, problem, iterations, Path(directory))
        calls = {SUREFOOT: partial(ours, cold=True), COMPILED: partial(ours, cold=False)}
        if options.seeds and problem.in_jax:
            calls[many] = partial(ours, cold=True, seeds=options.seeds)
        if fastest is not None:
            arguments = (problem, iterations, *fastest)
            calls[peer(problem, fastest)] = partial(whole_run, "single_task_sb3:WholeRun", *arguments)
        replies = interleaved(calls, options.whole_runs)
    figures = {
        name: {
            "seconds": median(of),
            "steps_per_second": steps * (options.seeds if name == many else 1) / median(of),
            "ratio": median_ratio(of, replies[SUREFOOT]),
            "returns": [reply.value for reply in of],
            "all_seconds": [reply.seconds for reply in of],
        }
        for name, of in replies.items()
    }
    rows = [
        [
            name,
            f"{x['seconds']:.1f}",
            f"{x['steps_per_second']:,.0f}",
            f"{x['ratio']:.1f}",
            ", ".join(f"{value:.0f}" for value in x["returns"]),
        ]
        for name, x in figures.items()
    ]
    columns = ["compilation included", "seconds", "steps a second", "× surefoot's time", "last returns"]
    print_table(f"{problem.preset}: a whole run of {steps:,} steps; medians", columns, rows)
    if many in figures:
        ratio = figures[many]["ratio"] / options.seeds
        print(f"{options.seeds} seeds in one program: {ratio:.2f} × {options.seeds} whole runs of one.\n")
    return {"steps": steps, **figures}


def surefoot_run(problem: Problem, iterations: int, folder: Path, cold: bool, seeds: int = 1) -> Reply:
    """From an empty cache of compiled programs; if not `cold`, from that which the run before has left."""
    cache = folder / "cache"
    if cold:
        shutil.rmtree(cache, ignore_errors=True)
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    return whole_run("single_task_surefoot:WholeRun", problem, iterations, seeds, out, cache)


def whole_run(factory: str, *arguments: Any) -> Reply:
    start = time.perf_counter()
    with Worker(factory, *arguments) as worker:
        seconds = time.perf_counter() - start
        return replace(worker.call("last_return"), seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
