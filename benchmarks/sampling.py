"""Sampling: steps of the environment a second, beside the physics alone and beside other libraries.

    python benchmarks/sampling.py                  # everything; some half an hour
    python benchmarks/sampling.py --quick          # small problems; a minute
    python benchmarks/sampling.py --json FILE      # all figures, for other programs

surefoot's samplers evaluate policies and record everything. The loop over `mj_step` replays the very
episodes that the batched sampler plays. EnvPool and Gymnasium are given its actions and do nothing else;
"with policies", they evaluate the same policies as surefoot, and still need not record. Each side lives in a
process of its own, and they take turns. It needs `pip install 'surefoot[mujoco]'`; EnvPool's rows need
`pip install envpool`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from harness import (
    MIB,
    Reply,
    Worker,
    cores,
    harness_options,
    interleaved,
    machine,
    print_table,
    write_json,
)
from sampling_problem import BODIES, Problem, Workers

QUICK = {"tasks": 2, "episodes": 4, "single": 4, "steps": 12, "loop_episodes": 4}
WORK = (100, 200, 500)
"""Microseconds of a step, for the process sampler."""
TOLERANCE = 1e-3
"""Largest difference between the loop's positions and velocities and the sampler's, soon after the start: one
stores them in single precision, and its solver may start from another guess."""
BARE, BARE_AT_ONCE = "bare mj_step", "bare mj_step, {} at once"
LOOP, LOOP_AT_ONCE = "bare loop", "bare loop, {} at once"
ASYNC = "Gymnasium, AsyncVectorEnv"
WITH_POLICIES = "{}, with policies"
PROCESSES = "surefoot, processes"

Replies = dict[str, list[Reply]]


class Target(NamedTuple):
    """A ratio of rates that is aimed at."""

    ours: str
    theirs: str
    least: float
    times: int = 1
    """What the other's rate is multiplied with: cores, where it is a single loop's."""


def main() -> int:
    options = parse()
    missing = [name for name in ("mujoco", "gymnasium") if find_spec(name) is None]
    if missing:
        print(f"Not installed: {', '.join(missing)}; `pip install 'surefoot[mujoco]'` adds them.")
        return 1
    if find_spec("envpool") is None:
        print("EnvPool is not installed, so its rows are absent; `pip install envpool` adds them.\n")
    figures: dict[str, Any] = {"machine": machine(), "physics": {}, "processes": {}, "memory": {}}
    agree = True
    for name in options.only or BODIES:
        problem = replace(Problem(name), **(QUICK if options.quick else {}))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recording.npz"
            with Worker("sampling_surefoot:record", problem, path):
                pass
            figures["physics"][name], fine = physics(problem, path, options)
            agree = agree and fine
            figures["memory"][name] = memory(problem, path)
            if name == "Ant-v5" and not options.quick:
                figures["processes"][name] = processes(name, Workers(name), path, options)
    for microseconds, problem in busy(options).items():
        title = f"{microseconds} µs"
        figures["processes"][title] = processes(title, problem, None, options)
    write_json(options.json, figures)
    return 0 if agree else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=BODIES, help="of the bodies")
    add("--quick", action="store_true", help="small problems and two rounds")
    harness_options(parser)
    add("--work", nargs="*", type=int, metavar="µS", help=f"of a step, in processes (default: {WORK})")
    add("--workers", type=int, default=cores(), metavar="N", help="processes (default: one for each core)")
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.quick else 7)
    if options.work is None:
        options.work = list(WORK[:1] if options.quick else WORK)
    return options


def physics(problem: Problem, path: Path, options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """All figures of one body, printed as they come, and whether loop and sampler do the same."""
    counts = [problem.environments, problem.single]
    with ExitStack() as stack:
        bare, bare_at_once, calls = bare_loops(problem, path, stack)
        difference = bare.call("difference").value
        sides = {name: stack.enter_context(worker) for name, worker in players(problem, path).items()}
        for side in sides.values():
            side.call("begin")
        calls |= {name: partial(side.call, "play") for name, side in sides.items()}
        loop = stack.enter_context(Worker("sampling_bare:Loop", problem.name, problem.steps, 20, path))
        calls["Gymnasium, one environment"] = partial(loop.call, "play")
        replies = warmed(calls, options.repeats)
    targets = [Target(ours(count), BARE, 0.90, cores()) for count in counts]
    targets += [Target(ours(count), bare_at_once, 0.90) for count in counts]
    peers = [(count, envpool(count), 1.4) for count in counts if envpool(count) in replies]
    for count, peer, least in [*peers, (problem.environments, ASYNC, 3.0)]:
        targets += [Target(ours(count), name, least) for name in (peer, WITH_POLICIES.format(peer))]
    title = f"{problem.name}: {problem.steps} steps an episode; medians"
    figures = {"problem": asdict(problem), **rates(title, replies, bare_at_once, targets)}
    fine = difference <= TOLERANCE
    print(f"Loop and sampler differ by {difference:.0e} soon after the start (tolerance {TOLERANCE:.0e}).\n")
    return {**figures, "difference": difference}, fine


def bare_loops(
    problem: Problem, path: Path, stack: ExitStack
) -> tuple[Worker, str, dict[str, Callable[[], Reply]]]:
    """One of them, the name of the row where all cores are busy, and what is timed."""
    loops = [stack.enter_context(Worker("sampling_bare:Physics", problem, path)) for _ in range(cores())]
    at_once = BARE_AT_ONCE.format(cores())
    calls: dict[str, Callable[[], Reply]] = {
        BARE: partial(loops[0].call, "play"),
        at_once: partial(together, loops),
    }
    if problem.body.forces:
        seeing = stack.enter_context(Worker("sampling_bare:Physics", problem, path, True))
        calls["bare mj_step, contact forces too"] = partial(seeing.call, "play")
    return loops[0], at_once, calls


def players(problem: Problem, path: Path) -> dict[str, Worker]:
    """surefoot's batched sampler and its peers."""
    cases = {problem.environments: (problem.tasks, problem.episodes), problem.single: (1, problem.single)}
    sides = {
        ours(count): Worker("sampling_surefoot:Batched", problem, tasks, episodes, cores())
        for count, (tasks, episodes) in cases.items()
    }
    if find_spec("envpool") is not None:
        for count, (tasks, _) in cases.items():
            pool = "sampling_peers:EnvPool", problem, path, count
            sides |= {
                envpool(count): Worker(*pool),
                WITH_POLICIES.format(envpool(count)): Worker(*pool, tasks),
            }
    peer = "sampling_peers:Processes", problem, path, 20
    return sides | {ASYNC: Worker(*peer), WITH_POLICIES.format(ASYNC): Worker(*peer, 1)}


def ours(count: int) -> str:
    return f"surefoot, {count} environments"


def envpool(count: int) -> str:
    return f"EnvPool, {count} environments"


def busy(options: argparse.Namespace) -> dict[int, Workers]:
    """For each time a step takes, the problem whose steps take it."""
    if not options.work:
        return {}
    sizes = {"tasks": 2 * options.workers, "episodes": 4, "steps": 12} if options.quick else {}
    with Worker("sampling_busy:Calibration") as calibration:
        work = {x: calibration.call("bytes_in", float(x)).value for x in options.work}
    return {x: Workers("sampling_busy:Busy", work=n, **sizes) for x, n in work.items()}


def processes(title: str, problem: Workers, path: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """The process sampler, beside loops over one environment."""
    workers = options.workers
    at_once = LOOP_AT_ONCE.format(workers)
    arguments = problem.name, problem.steps, problem.loop_episodes, path, problem.work
    with ExitStack() as stack:
        loops = [stack.enter_context(Worker("sampling_bare:Loop", *arguments)) for _ in range(workers)]
        side = stack.enter_context(Worker("sampling_surefoot:Processes", problem, workers))
        start = side.call("begin")
        calls: dict[str, Callable[[], Reply]] = {
            LOOP: partial(loops[0].call, "play"),
            at_once: partial(together, loops),
            PROCESSES: partial(side.call, "play"),
        }
        replies = warmed(calls, options.repeats)
        side.call("close")
    targets = [Target(PROCESSES, LOOP, 0.85, workers), Target(PROCESSES, at_once, 0.85)]
    microseconds = 1e6 / median(map(rate, replies[LOOP]))
    heading = f"{title}: {workers} workers, {problem.tasks} tasks × {problem.episodes} episodes"
    table = rates(f"{heading}; {microseconds:.0f} µs a step of the loop", replies, at_once, targets)
    print(f"Start of the workers, with compilation and a first round: {start.seconds:.1f} s\n")
    return {"problem": asdict(problem), "step_microseconds": microseconds, "start": start.seconds, **table}


def warmed(calls: Mapping[str, Callable[[], Reply]], repeats: int) -> Replies:
    """Each once, untimed, and then in turns."""
    for call in calls.values():
        call()
    return interleaved(calls, repeats)


def together(workers: Sequence[Worker]) -> Reply:
    """All of them at once: their steps, and the time of the slowest."""
    with ThreadPoolExecutor(len(workers)) as threads:
        replies = list(threads.map(lambda worker: worker.call("play"), workers))
    steps, seconds = sum(reply.value for reply in replies), max(reply.seconds for reply in replies)
    return replace(replies[0], value=steps, seconds=seconds, cpu_seconds=sum(r.cpu_seconds for r in replies))


def rate(reply: Reply) -> float:
    """Steps a second."""
    return reply.value / reply.seconds


def ratio(ours: Sequence[Reply], theirs: Sequence[Reply], times: int = 1) -> float:
    """The median over rounds of one side's rate by another's in the same round."""
    return median(rate(a) / (times * rate(b)) for a, b in zip(ours, theirs, strict=True))


def rates(title: str, replies: Replies, floor: str, targets: Sequence[Target]) -> dict[str, Any]:
    """Prints what was measured and what was aimed at."""
    sides = {
        name: {
            "steps_per_second": median(map(rate, of)),
            "of_floor": ratio(of, replies[floor]),
            "all_steps_per_second": [rate(reply) for reply in of],
            "all_cpu_seconds": [reply.cpu_seconds for reply in of],
        }
        for name, of in replies.items()
    }
    rows = [[name, f"{x['steps_per_second']:,.0f}", f"{x['of_floor']:.2f}"] for name, x in sides.items()]
    print_table(title, ["", "steps a second", f"× {floor}"], rows)
    aims = [aim(target, replies) for target in targets]
    lines = [[x["what"], f"{x['ratio']:.2f}", f"{x['least']:.2f}", _verdict(x)] for x in aims]
    print_table("Targets", ["", "measured", "at least", ""], lines)
    return {"sides": sides, "targets": aims}


def aim(target: Target, replies: Replies) -> dict[str, Any]:
    by = f"({target.theirs} × {target.times})" if target.times > 1 else target.theirs
    measured = ratio(replies[target.ours], replies[target.theirs], target.times)
    return {"what": f"{target.ours} / {by}", "ratio": measured, "least": target.least}


def _verdict(aim: Mapping[str, Any]) -> str:
    return "reached" if aim["ratio"] >= aim["least"] else "missed"


def memory(problem: Problem, path: Path) -> dict[str, Any]:
    """Bytes resident in a new process that holds and plays all environments: when its libraries are loaded,
    policies and actions with them; at the peak of making and playing the environments for the first time,
    compilation included; and at the peak of playing them again."""
    arguments = {ours(problem.environments): ("sampling_surefoot:Batched", problem.tasks, problem.episodes)}
    workers = {
        name: partial(Worker, factory, problem, tasks, episodes, cores())
        for name, (factory, tasks, episodes) in arguments.items()
    }
    if find_spec("envpool") is not None:
        count = problem.environments
        workers[envpool(count)] = partial(Worker, "sampling_peers:EnvPool", problem, path, count)
    figures = {name: footprint(make) for name, make in workers.items()}
    columns = ("loaded", "first", "peak", "increase")
    rows = [[name, *(f"{of[column] / MIB:.0f}" for column in columns)] for name, of in figures.items()]
    titles = ["MiB", "libraries loaded", "first peak", "later peak", "later, less libraries"]
    print_table(f"{problem.name}: memory", titles, rows)
    recorded = figures[ours(problem.environments)]["rollout"]
    print(f"What surefoot's sampler returns takes {recorded / MIB:.0f} MiB of it.\n")
    return figures


def footprint(make: Callable[[], Worker]) -> dict[str, int]:
    with make() as side:
        first = side.call("begin")
        rollout = first.value if isinstance(first.value, int) else 0
        later = [side.call("play") for _ in range(2)]
        loaded, peak = side.started.resident, max(reply.peak for reply in later)
        figures = {"loaded": loaded, "first": first.peak, "peak": peak, "rollout": rollout}
        return {**figures, "increase": peak - loaded}


if __name__ == "__main__":
    sys.exit(main())
