"""Training many runs on a Ray cluster (Moritz et al., 2018), each in a process of its own.

Every machine of the cluster must reach the folder of the runs. A run that is lost with its process or its
machine goes on elsewhere from its latest checkpoint, to the same end.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.learner import Learner
from surefoot.experiment.run import Run, load, train_runs
from surefoot.experiment.training import ManyOutcome
from surefoot.options import UserError
from surefoot.samplers.options import cores
from surefoot.samplers.ray import Connection

_PATIENCE = 60.0
"""Seconds that runs have to end their iteration after an interrupt."""


def train_on_ray(runs: Sequence[Run], quiet: bool) -> ManyOutcome:
    """Trains runs to their ends on the cluster that the environment variable RAY_ADDRESS names, by default
    one on this machine that ends with them. Raises `UserError` as training does."""
    connection = Connection(os.environ.get("RAY_ADDRESS"), cores())
    # In the main thread Ray would take over SIGTERM. A cluster that is started ends with the thread.
    with ThreadPoolExecutor(1) as thread, closing(connection):
        ray = thread.submit(connection.open).result()
        remote = ray.remote(num_cpus=1, max_retries=-1)(go_on)
        with Interrupts() as interrupts:
            waiting = {remote.remote(str(run.folder.path.resolve()), sys.path): run for run in runs}
            failed = []
            try:
                while waiting and not interrupts.received:
                    for done in ray.wait(list(waiting), timeout=0.5)[0]:
                        run = waiting.pop(done)
                        stopped = _answer(ray, done)
                        failed += [run.folder.path] * stopped
                        if not quiet:
                            text = f"{run.name} {'has failed' if stopped else 'is trained'}"
                            print(f"{text}: {len(runs) - len(waiting)} of {len(runs)} runs", file=sys.stderr)
            finally:
                for reference in waiting:  # they end their iteration, and write a checkpoint
                    ray.cancel(reference)
                if waiting:
                    ray.wait(list(waiting), num_returns=len(waiting), timeout=_PATIENCE)
    found = [load(run.folder.path) for run in runs]
    return ManyOutcome(found, [run for run in found if run.folder.path in failed], interrupts.received)


def go_on(folder: str, import_path: list[str]) -> bool:
    """Trains a run to its end in a process of the cluster; returns whether it failed."""
    sys.path[:] = [*import_path, *(path for path in sys.path if path not in import_path)]
    run = load(Path(folder))
    if run.iteration == run.config.iterations:
        return False
    with closing(Learner(run.config)) as learner:
        return train_runs([run], learner.lower(run.state), quiet=True).members[0].failed


def _answer(ray: Any, done: Any) -> bool:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise UserError(f"The Ray cluster lost a run for good: {error} Its checkpoints are kept.") from error
