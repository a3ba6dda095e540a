"""Many seeds of one experiment in one program: they share every call, and each leaves a run of its own.

OUT/seed000/, OUT/seed001/, …   ordinary run folders, each of which can be evaluated, loaded and resumed

One seed's result does not depend on how many others there are, but for rounding: a program for many is not
compiled to the same instructions as a program for one.
"""

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from surefoot.experiment.config import Config
from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.run import Run, RunFolder, TrainingState, load, make_new, state_from
from surefoot.experiment.serialise import save_config
from surefoot.experiment.training import Iteration, Lowered, iteration_of, locked
from surefoot.options import UserError, check
from surefoot.rules.base import Metrics


@dataclass(frozen=True)
class SeedsOutcome:
    """How a call of `train_seeds` ended."""

    runs: list[Run]
    failed: list[Run]
    """Those of `runs` that stopped at a loss or parameter that is not finite, at their last good state."""
    interrupted: signal.Signals | None
    """The signal that ended it before the last iteration; None if it is complete."""


def train_seeds(config: Config, seeds: int, out: str | Path, *, quiet: bool = True) -> SeedsOutcome:
    """Trains `seeds` runs side by side, with the seeds `config.seed`, `config.seed` + 1, …, into new folders
    under `out`.

    A seed that fails stops; the others go on. Raises `UserError` as `train` does.
    """
    check(seeds >= 1, "seeds", seeds, "1 or more")
    configs = [replace(config, seed=config.seed + i) for i in range(seeds)]
    states = initial_states(config, seeds)
    traced = _vmapped(config).lower(states)
    make_new(Path(out))
    folders = [RunFolder.create(Path(out) / f"seed{c.seed:03d}") for c in configs]
    runs = [Run(f, c, _one(states, i)) for i, (f, c) in enumerate(zip(folders, configs, strict=True))]
    for run in runs:
        run.folder.save(run.state)
    return _go_on(runs, states, traced, quiet)


def resume_seeds(out: str | Path, *, iterations: int | None = None, quiet: bool = True) -> SeedsOutcome:
    """Goes on with the runs under `out`, all together, to the same end as if they had never stopped.

    Seeds that had failed stay as they are. Raises `UserError` as `resume` does.
    """
    runs = [load(folder) for folder in seed_folders(Path(out))]
    if iterations is not None:
        runs = [replace(run, config=replace(run.config, iterations=iterations)) for run in runs]
    done, wanted = max(run.iteration for run in runs), runs[0].config.iterations
    if done > wanted:
        raise UserError(f"{out} is at iteration {done} already, beyond {wanted}.")
    states = jax.tree.map(lambda *x: jnp.stack(x), *[run.state for run in runs])
    return _go_on(runs, states, _vmapped(runs[0].config).lower(states), quiet)


def seed_folders(out: Path) -> list[Path]:
    """The runs that `train_seeds` made under `out`; none if it did not."""
    return sorted(path.parent for path in out.glob("seed*/config.yaml"))


def initial_states(config: Config, seeds: int) -> TrainingState:
    """The states before the first iteration, with a leading axis of `seeds`."""
    numbers = jnp.asarray(np.arange(config.seed, config.seed + seeds, dtype=np.uint32))

    def state(seed: Int[Array, ""]) -> TrainingState:
        return state_from(config, jax.random.key(seed))

    return eqx.filter_jit(eqx.filter_vmap(state))(numbers)


def compiled_seeds(config: Config, states: TrainingState) -> Iteration:
    """One iteration of every seed, compiled. A seed whose result is not finite stays where it was."""
    return _vmapped(config).lower(states).compile()


def _go_on(runs: list[Run], states: TrainingState, traced: Lowered, quiet: bool) -> SeedsOutcome:
    done, total = max(run.iteration for run in runs), runs[0].config.iterations
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(locked(run.folder))
            save_config(run.config, run.folder.config)
        interrupts = stack.enter_context(Interrupts())
        writers = [stack.enter_context(MetricsWriter(run.folder.path, run.iteration)) for run in runs]
        progress = stack.enter_context(TrainingProgress(total, done, quiet))
        progress.waiting(f"compiling the iteration of {len(runs)} seeds")
        fleet = _Fleet(runs, writers, traced.compile())
        states = fleet.train(states, range(done + 1, total + 1), interrupts, progress)
    runs = [replace(run, state=_one(states, i)) for i, run in enumerate(runs)]
    complete = max(run.iteration for run in runs) == total
    failed = [run for run, alive in zip(runs, fleet.alive, strict=True) if not alive]
    return SeedsOutcome(runs, failed, None if complete else interrupts.received)


def _vmapped(config: Config) -> Any:
    iterate = iteration_of(config)

    def keep_finite(state: TrainingState) -> tuple[TrainingState, Metrics]:
        following, metrics = iterate(state)
        finite = metrics["finite"] > 0
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), following, state), metrics

    return eqx.filter_jit(eqx.filter_vmap(keep_finite))


def _one(states: TrainingState, i: int) -> TrainingState:
    return jax.tree.map(lambda x: x[i], states)


class _Fleet:
    """Runs that are trained together."""

    def __init__(self, runs: list[Run], writers: list[MetricsWriter], iterate: Iteration) -> None:
        self._runs, self._writers, self._iterate = runs, writers, iterate
        furthest = max(run.iteration for run in runs)
        self.alive = [run.iteration == furthest for run in runs]

    def train(
        self, states: TrainingState, iterations: range, interrupts: Interrupts, progress: TrainingProgress
    ) -> TrainingState:
        """To the end, or until interrupted or none is left. Checkpoints are written either way."""
        progress.waiting("sampling and learning")
        for iteration in iterations:
            if interrupts.received or not any(self.alive):
                break
            began = time.monotonic()
            states, metrics = self._iterate(states)
            values = {name: np.asarray(value, float) for name, value in metrics.items()}
            self._record(iteration, values, time.monotonic() - began, progress)
            if iteration % self._runs[0].config.checkpoint_every == 0:
                self._save(states)
        self._save(states)
        return states

    def _record(
        self, iteration: int, values: dict[str, np.ndarray], seconds: float, progress: TrainingProgress
    ) -> None:
        finite = values.pop("finite") > 0
        for i, writer in enumerate(self._writers):
            if self.alive[i]:
                row = {name: float(value[i]) for name, value in values.items()}
                writer.write(iteration, {**row, "seconds": seconds})
            if self.alive[i] and not finite[i]:
                progress.say(
                    f"seed {self._runs[i].config.seed} stops: its loss or a parameter is not finite."
                )
            self.alive[i] = self.alive[i] and bool(finite[i])
        if any(self.alive):
            progress.completed(iteration, {k: float(np.mean(v[self.alive])) for k, v in values.items()})

    def _save(self, states: TrainingState) -> None:
        for i, run in enumerate(self._runs):
            state = _one(states, i)
            if not run.folder.checkpoint(int(state.iteration)).exists():
                run.folder.save(state)
