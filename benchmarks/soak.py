"""A soak test: whether memory stays flat through thousands of iterations with workers.

A small run of MAML-TRPO, with metrics, TensorBoard and checkpoints, samples in worker processes or on a Ray
cluster of this machine. Every ten iterations the memory that is resident in this process and in each of its
workers is noted. The growth of a process is the median of the last hundred iterations less that of the
hundred after the first half.

    python benchmarks/soak.py                       # worker processes, 2,000 iterations
    python benchmarks/soak.py --sampler ray

Exits with 1 if a process grew by more than `--most` MiB, or if a worker was replaced. Linux only.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from harness import MIB, print_table, write_json

import surefoot
from surefoot.experiment.callbacks import Event
from surefoot.experiment.presets import configure, with_options
from surefoot.samplers import Processes, Ray, SamplerOptions

SAMPLERS: dict[str, SamplerOptions] = {"processes": Processes(workers=2), "ray": Ray(workers=2)}
EVERY, WINDOW = 10, 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sampler", choices=SAMPLERS, default="processes")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--most", type=float, default=5.0, help="allowed growth in MiB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args()
    seen = soak(SAMPLERS[args.sampler], args.iterations)
    half = args.iterations // 2
    rows, worst = [], 0.0
    for name, resident in seen.items():
        if max(resident) <= half:
            continue  # it helped to start the others
        at = {i: resident[i] / MIB for i in sorted(resident)}
        early = statistics.median(x for i, x in at.items() if half < i <= half + WINDOW)
        late = statistics.median(x for i, x in at.items() if i > args.iterations - WINDOW)
        later = [x for i, x in at.items() if i > half]
        worst = max(worst, late - early)
        figures = at[min(at)], early, late, late - early, max(later) - min(later)
        rows.append([name, *(f"{x:.1f}" for x in figures)])
    title = f"{args.sampler}, {args.iterations} iterations: MiB resident"
    columns = ["process", "at first", f"after {half}", "at the end", "growth", "span of the second half"]
    print_table(title, columns, rows)
    write_json(args.json, {"sampler": args.sampler, "iterations": args.iterations, "resident": seen})
    replaced = [name for name, resident in seen.items() if min(resident) > half or max(resident) < half]
    print(
        f"largest growth {worst:.1f} MiB, of {args.most:g} allowed; replaced: {', '.join(replaced) or 'none'}"
    )
    return int(worst > args.most or bool(replaced))


def soak(sampler: SamplerOptions, iterations: int) -> dict[str, dict[int, int]]:
    """The bytes that are resident in each process, by iteration."""
    seen: dict[str, dict[int, int]] = defaultdict(dict)

    def note(event: Event) -> None:
        if event.iteration % EVERY == 0:
            for name, pid in {"this process": os.getpid(), **workers()}.items():
                seen[name][event.iteration] = resident(pid)

    config = configure(
        "navigation-2d", options={"iterations": iterations, "episodes": 2, "checkpoint_every": 100}
    )
    config = with_options(
        replace(config, sampler=sampler),
        {"env.horizon": 4, "algorithm.tasks": 4, "policy.hidden": (8,)},
    )
    with tempfile.TemporaryDirectory() as folder:
        surefoot.train(config, Path(folder) / "run", callbacks=[note])
    return seen


def workers() -> dict[str, int]:
    """The workers among the processes that this one has started, directly or not: those of
    `multiprocessing`, and those of Ray, whose tasks rename them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
    found = {}
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        command = b" ".join(commands(pid)) if above == os.getpid() != pid else b""
        if b"spawn_main" in command or b"ray::" in command:
            found[f"worker {pid}"] = pid
    return found


def commands(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def resident(pid: int) -> int:
    """The bytes that are resident in a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
