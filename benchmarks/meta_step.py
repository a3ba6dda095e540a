"""One step of MAML-TRPO, side by side with the usual way of taking it in PyTorch.

    python benchmarks/meta_step.py                  # everything; some minutes
    python benchmarks/meta_step.py --quick          # a small problem; half a minute
    python benchmarks/meta_step.py --json FILE      # all figures, for other programs

Both sides start from the same parameters and the same data and take the step with the same settings, in
single precision and on all cores, in turns. The run fails if they disagree on the loss, the gradient, the
Fisher-vector product or the policy they end at. Without PyTorch, surefoot is measured alone.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    MIB,
    Reply,
    Worker,
    harness_options,
    interleaved,
    machine,
    median,
    median_ratio,
    print_table,
    write_json,
)
from meta_step_problem import Operations, Problem

QUICK = Problem(tasks=4, episodes=4, steps=25, hidden=(16, 16), cg_iterations=4)
WAYS = ("rebuilt", "kept", "task by task")
TOLERANCES = {
    "loss before": 1e-6,
    "gradient": 1e-5,
    "Fisher-vector product": 1e-5,
    "loss after": 1e-5,
    "KL after": 1e-4,
    "parameters after": 1e-5,
}
"""Largest difference: of losses absolute, of the KL relative, of vectors in norm relative to the norm."""

Replies = dict[str, list[Reply]]


def main() -> int:
    options = parse()
    problem = QUICK if options.quick else Problem()
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "problem.npz"
        with Worker("meta_step_surefoot:collect", problem, path):
            pass
        sides = {"surefoot": stack.enter_context(Worker("meta_step_surefoot:Side", problem, path))}
        if find_spec("torch") is None:
            print(
                "PyTorch is not installed, so the peer's columns are absent; `pip install torch` adds them.\n"
            )
        else:
            for way in WAYS[:1] if options.quick else WAYS:
                worker = Worker("meta_step_torch:Side", problem, path, way)
                sides[f"PyTorch, {way}"] = stack.enter_context(worker)
        figures, agree = measure(problem, sides, options, path)
    write_json(options.json, figures)
    return 0 if agree else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a small problem and two rounds")
    harness_options(parser)
    add(
        "--fisher-fraction",
        type=float,
        nargs="*",
        metavar="PART",
        help="compared with 1.0 (default: 0.25 0.1)",
    )
    add("--chunk", type=int, nargs="*", metavar="TASKS", help="compared with 1 (default: 2 4 8 40)")
    options = parser.parse_args()
    quick = options.quick
    defaults = {
        "repeats": 2 if quick else 7,
        "fisher_fraction": [0.25] if quick else [0.25, 0.1],
        "chunk": [2] if quick else [2, 4, 8, 40],
    }
    for name, default in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    return options


def measure(
    problem: Problem, sides: dict[str, Worker], options: argparse.Namespace, path: Path
) -> tuple[dict[str, Any], bool]:
    """All figures, printed as they come, and whether the sides agree."""
    compiled = sides["surefoot"].call("compile")
    first = {name: side.call("step") for name, side in sides.items()}
    shapes = product_shapes(problem, options.quick)
    replies = race(sides, shapes, options.repeats)
    figures: dict[str, Any] = {"machine": machine(), "problem": asdict(problem)}
    figures["agreement"], agree = agreement(sides)
    figures["time"] = times(sides, replies, compiled)
    footprints = {name: footprint(side, first[name], replies[name]) for name, side in sides.items()}
    footprints["surefoot"] = footprint(sides["surefoot"], first["surefoot"], replies["surefoot"], compiled)
    if not options.quick:
        footprints["surefoot, compiled before"] = footprint_from_cache(problem, path)
    figures["memory"] = memory(footprints)
    figures["floor"] = floor(problem, sides["surefoot"], shapes, replies)
    figures["fisher_fraction"] = fractions(sides["surefoot"], options)
    figures["chunk"] = chunks(sides["surefoot"], problem, compiled, options)
    return figures, agree


def race(sides: dict[str, Worker], shapes: dict[str, tuple[int, int, int]], repeats: int) -> Replies:
    """The sides' steps and, by each library, the matrix products that the machine's rate is taken from."""
    modules = ["meta_step_surefoot", "meta_step_torch"][: len(sides)]
    with ExitStack() as stack:
        workers = {
            f"{name} {module}": stack.enter_context(Worker(f"{module}:Products", *shape))
            for name, shape in shapes.items()
            for module in modules
        }
        products = {name: partial(worker.call, "run") for name, worker in workers.items()}
        steps = {name: partial(side.call, "step") for name, side in sides.items()}
        return interleaved({**steps, **products}, repeats)


def agreement(sides: dict[str, Worker]) -> tuple[dict[str, Any], bool]:
    ours = outcome(sides["surefoot"])
    differences = {name: differ(ours, outcome(side)) for name, side in sides.items() if name != "surefoot"}
    wrong = [
        f"{name} and surefoot disagree on the {what}: {difference:.1e}, tolerance {TOLERANCES[what]:.0e}."
        for name, of in differences.items()
        for what, difference in of.items()
        if not difference <= TOLERANCES[what]
    ]
    rows = [
        [what, f"{tolerance:.0e}", *(f"{of[what]:.1e}" for of in differences.values())]
        for what, tolerance in TOLERANCES.items()
    ]
    if differences:
        print_table("Difference from surefoot", ["", "tolerance", *differences], rows)
    for line in wrong:
        print(line, file=sys.stderr)
    figures = {"differences": differences, "tolerances": TOLERANCES, "surefoot": scalars(ours)}
    return figures, not wrong


def outcome(side: Worker) -> dict[str, Any]:
    vectors = {"gradient": side.call("gradient").value, "Fisher-vector product": side.call("product").value}
    return {**side.call("result").value, **vectors}


def scalars(outcome: dict[str, Any]) -> dict[str, float]:
    return {name: x for name, x in outcome.items() if not isinstance(x, np.ndarray)}


def differ(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    def relative(name: str) -> float:
        difference = np.linalg.norm(np.subtract(ours[name], theirs[name]))
        return float(difference / np.linalg.norm(ours[name]))

    return {
        "loss before": abs(ours["loss"] - theirs["loss"]),
        "gradient": relative("gradient"),
        "Fisher-vector product": relative("Fisher-vector product"),
        "loss after": abs(ours["loss_after"] - theirs["loss_after"]),
        "KL after": relative("kl"),
        "parameters after": relative("parameters"),
    }


def product_shapes(problem: Problem, quick: bool) -> dict[str, tuple[int, int, int]]:
    """(rows, width, length of the chain) of the products timed: a layer's on a task's set, and a large."""
    large = 256 if quick else 2048
    rows = problem.episodes * problem.steps
    shapes = [(rows, problem.hidden[0], 500), (large, large, 1)]
    return {f"[{rows} {width}]·[{width} {width}]": (rows, width, length) for rows, width, length in shapes}


def times(sides: dict[str, Worker], replies: Replies, compiled: Reply) -> dict[str, Any]:
    figures = {
        name: {
            **cost(replies[name]),
            "ratio": median_ratio(replies[name], replies["surefoot"]),
            "cpu_ratio": median_ratio(replies[name], replies["surefoot"], "cpu_seconds"),
            "all_seconds": [reply.seconds for reply in replies[name]],
        }
        for name in sides
    }
    rows = [
        [name, f"{x['seconds']:.3f}", f"{x['cpu_seconds']:.3f}", f"{x['ratio']:.2f}", f"{x['cpu_ratio']:.2f}"]
        for name, x in figures.items()
    ]
    columns = ["", "seconds", "processor seconds", "× surefoot", "× processor seconds"]
    print_table("One meta-step: medians", columns, rows)
    print(f"surefoot's compilation, once: {compiled.seconds:.2f} s\n")
    return {"compilation_seconds": compiled.seconds, **figures}


def footprint(
    side: Worker, first: Reply, later: list[Reply], compiled: Reply | None = None
) -> dict[str, int]:
    """Bytes resident in a side's process: with its libraries and the data loaded, at the peak (compilation
    included), the difference, and what its first step added to what was there when the step began."""
    data, before = side.started.resident, compiled or side.started
    peak = max(reply.peak for reply in [before, first, *later])
    return {"data": data, "peak": peak, "increase": peak - data, "step": first.peak - before.resident}


def footprint_from_cache(problem: Problem, path: Path) -> dict[str, int]:
    """That of surefoot where JAX finds the compiled step on disk, put there by a run before."""

    def cached() -> dict[str, int]:
        with Worker("meta_step_surefoot:Side", problem, path) as side:
            side.call("use_cache", path.parent)
            compiled = side.call("compile")
            return footprint(side, side.call("step"), [], compiled)

    cached()
    return cached()


def memory(footprints: dict[str, dict[str, int]]) -> dict[str, Any]:
    parts = ("peak", "increase", "step")
    ours = footprints["surefoot"]
    rows = [
        [name, *(f"{x / MIB:.0f}" for x in of.values()), *(f"{of[part] / ours[part]:.2f}" for part in parts)]
        for name, of in footprints.items()
    ]
    columns = ["MiB", "data loaded", "peak", "increase", "first step", *(f"× {part}" for part in parts)]
    print_table("Memory", columns, rows)
    return footprints


def floor(
    problem: Problem, side: Worker, shapes: dict[str, tuple[int, int, int]], replies: Replies
) -> dict[str, Any]:
    """The step's matrix products at the machine's rate of them."""
    attempts = int(side.call("result").value["line_search_attempts"])
    operations = Operations.of(problem).step(problem.cg_iterations, attempts)
    seconds = median(replies["surefoot"])
    figures: dict[str, Any] = {"operations": operations, "line_search_attempts": attempts}
    rows = []
    for name, (height, width, length) in shapes.items():
        fastest = min(median(r) for contender, r in replies.items() if contender.startswith(name))
        rate = 2.0 * height * width**2 * length / fastest
        figures[name] = {"rate": rate, "floor": operations / rate, "factor": seconds * rate / operations}
        rows.append(
            [name, f"{rate / 1e9:.0f}", f"{operations / rate:.3f}", f"{seconds * rate / operations:.2f}"]
        )
    columns = ["rate of the product", "GFLOP/s", "floor, seconds", "surefoot × floor"]
    title = f"Floor: {operations / 1e9:.1f} GFLOP, {problem.cg_iterations} products, {attempts} attempts"
    print_table(title, columns, rows)
    return figures


def cost(replies: list[Reply]) -> dict[str, float]:
    return {"seconds": median(replies), "cpu_seconds": median(replies, "cpu_seconds")}


def fractions(side: Worker, options: argparse.Namespace) -> dict[str, Any]:
    parts = [1.0, *options.fisher_fraction]
    for part in parts[1:]:
        side.call("compile", part)
        side.call("step", part)
    replies = interleaved({str(part): partial(side.call, "step", part) for part in parts}, options.repeats)
    figures = {
        part: {
            **cost(r),
            "gain": median_ratio(replies["1.0"], r),
            "cpu_gain": median_ratio(replies["1.0"], r, "cpu_seconds"),
        }
        for part, r in replies.items()
    }
    rows = [[part, *(f"{figure:.3f}" for figure in x.values())] for part, x in figures.items()]
    columns = ["fisher-fraction", "seconds", "processor seconds", "gain", "gain, processor"]
    print_table("Fisher matrix from a part of the tasks", columns, rows)
    return figures


def chunks(side: Worker, problem: Problem, compiled: Reply, options: argparse.Namespace) -> dict[str, Any]:
    working = {1: compiled.value["bytes"]}
    for chunk in options.chunk:
        working[chunk] = side.call("compile", 1.0, chunk).value["bytes"]
        side.call("step", 1.0, chunk)
    calls = {str(chunk): partial(side.call, "step", 1.0, chunk) for chunk in working}
    replies = interleaved(calls, options.repeats)
    figures: dict[str, Any] = {
        str(chunk): {**cost(replies[str(chunk)]), "bytes": size} for chunk, size in working.items()
    }
    rows = [
        [chunk, f"{x['seconds']:.3f}", f"{x['cpu_seconds']:.3f}", f"{x['bytes'] / MIB:.1f}"]
        for chunk, x in figures.items()
    ]
    columns = ["chunk", "seconds", "processor seconds", "working memory, MiB"]
    print_table("Tasks worked on at a time", columns, rows)
    many = 4 * problem.tasks
    figures["more_tasks"] = {"tasks": many, "bytes": side.call("working_bytes", many).value}
    sizes = [f"{size / MIB:.1f} MiB" for size in (working[1], figures["more_tasks"]["bytes"])]
    print(f"Working memory at chunk 1: {sizes[0]} for {problem.tasks} tasks, {sizes[1]} for {many}.")
    return figures


if __name__ == "__main__":
    sys.exit(main())
