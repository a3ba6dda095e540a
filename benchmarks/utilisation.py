"""Worker processes: the share of the time in which they sample, against the cost of a step.

    python benchmarks/utilisation.py --microseconds 100 300 1000 3000

Meta-trains with MAML-TRPO in an environment that keeps a core busy for a known time in each step. Workers
wait while the learner takes its step: it needs their episodes, and the next ones need its policy. So the
share depends on what the learning step costs beside the episodes. Of each run the first iteration, in which
programs are compiled, is left out.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import sampling_busy
from rich.console import Console
from rich.table import Table

from surefoot.envs import Gymnasium
from surefoot.experiment import preset, train
from surefoot.experiment.timeline import traced_iterations
from surefoot.samplers import Processes

_STEPS = 100


def measure(work: int, workers: int, tasks: int, episodes: int, iterations: int) -> list[float]:
    """Seconds of an iteration, and the shares of its time in which the workers sampled, the learner adapted
    to tasks and took its step: means over the iterations from the second on. `work` is that of a step, in
    bytes."""
    os.environ[sampling_busy.WORK] = str(work)
    start: Any = preset("half-cheetah-dir/maml-trpo")
    config = replace(
        start,
        env=Gymnasium(sampling_busy.NAME, time_limit=_STEPS),
        algorithm=replace(start.algorithm, tasks=tasks),
        sampler=Processes(workers=workers),
        episodes=episodes,
        iterations=iterations,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", trace=True)
        later = traced_iterations(Path(folder) / "run")[1:]
    return [
        mean(it.seconds for it in later),
        mean(mean(it.utilisation()) for it in later),
        mean(it.learner_share("adapt") + it.learner_share("prepare") for it in later),
        mean(it.learner_share("learn") for it in later),
    ]


def main() -> None:
    """Prints a row for each cost of a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--microseconds", type=float, nargs="+", default=[100.0, 300.0, 1000.0, 3000.0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=4)
    options = parser.parse_args()
    calibration = sampling_busy.Calibration()
    table = Table("µs a step", "seconds", "workers sample", "learner adapts", "learning step")
    for microseconds in options.microseconds:
        work = calibration.bytes_in(microseconds)
        seconds, *shares = measure(work, options.workers, options.tasks, options.episodes, options.iterations)
        table.add_row(f"{microseconds:g}", f"{seconds:.2f}", *(f"{share:.0%}" for share in shares))
    Console().print(table)


if __name__ == "__main__":
    main()
