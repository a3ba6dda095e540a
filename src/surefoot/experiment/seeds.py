"""Many seeds of one experiment: in one program, where they share every call, or one after another where their
environments cannot be compiled. Each leaves a run of its own.

OUT/seed000/, OUT/seed001/, …   ordinary run folders, each of which can be evaluated, loaded and resumed

One seed's result does not depend on how many others there are, but for rounding: a program for many is not
compiled to the same instructions as a program for one.
"""

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from surefoot.algorithms import Setting
from surefoot.experiment.config import Config
from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.run import (
    Run,
    RunFolder,
    TrainingState,
    load,
    make_new,
    must_be_new,
    seed_folders,
    state_from,
)
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.experiment.training import (
    Iteration,
    Lowered,
    NonFiniteError,
    go_on,
    iteration_of,
    locked,
    traced_iteration,
)
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
    """Trains `seeds` runs, side by side or in turn, with the seeds `config.seed`, `config.seed` + 1, …, into
    new folders under `out`.

    A seed that fails stops; the others go on. Raises `UserError` as `train` does.
    """
    check(seeds >= 1, "seeds", seeds, "1 or more")
    must_be_new(Path(out))
    check_round_trip(config)
    configs = [replace(config, seed=config.seed + i) for i in range(seeds)]
    states = initial_states(config, seeds)
    with closing(config.setting()) as setting:
        program = _program(config, setting, states)
        make_new(Path(out))
        folders = [RunFolder.create(Path(out) / f"seed{c.seed:03d}") for c in configs]
        runs = [Run(f, c, _one(states, i)) for i, (f, c) in enumerate(zip(folders, configs, strict=True))]
        for run in runs:
            save_config(run.config, run.folder.config)
            run.folder.save(run.state)
        return program(runs, quiet)


def resume_seeds(out: str | Path, *, iterations: int | None = None, quiet: bool = True) -> SeedsOutcome:
    """Goes on with the runs under `out`, all together, to the same end as if they had never stopped.

    A seed that had failed fails again, at once. Raises `UserError` as `resume` does.
    """
    runs = [load(folder) for folder in seed_folders(Path(out))]
    if not runs:
        raise UserError(f"There are no runs of many seeds at {out}.")
    if iterations is not None:
        runs = [replace(run, config=replace(run.config, iterations=iterations)) for run in runs]
    done, wanted = max(run.iteration for run in runs), runs[0].config.iterations
    if done > wanted:
        raise UserError(f"{out} is at iteration {done} already, beyond {wanted}.")
    if all(run.iteration == wanted and run.folder.evaluation.exists() for run in runs):
        raise UserError(
            f"{out} is complete: {done} of {wanted} iterations. "
            f"To learn on: surefoot resume {out} --iterations {2 * wanted}"
        )
    with closing(runs[0].config.setting()) as setting:
        return _program(runs[0].config, setting, _stacked(runs))(runs, quiet)


def initial_states(config: Config, seeds: int) -> TrainingState:
    """The states before the first iteration, with a leading axis of `seeds`."""
    numbers = jnp.asarray(np.arange(config.seed, config.seed + seeds, dtype=np.uint32))

    def state(seed: UInt[Array, ""]) -> TrainingState:
        return state_from(config, jax.random.key(seed))

    return eqx.filter_jit(eqx.filter_vmap(state))(numbers)


def compiled_seeds(config: Config, setting: Setting, states: TrainingState) -> Iteration:
    """One iteration of every seed, compiled. A seed that is at its end, or whose result is not finite, stays
    where it was."""
    return _traced_seeds(config, setting, states)()


def _program(config: Config, setting: Setting, states: TrainingState) -> Callable[..., SeedsOutcome]:
    """What trains runs (and is told whether to be quiet): side by side where the sampler can be compiled for
    many, otherwise one after another. Whatever does not fit together is found here."""
    if setting.sampler.traceable:
        return partial(_side_by_side, _traced_seeds(config, setting, states))
    traced_iteration(config, setting, _one(states, 0))
    return _in_turn


def _in_turn(runs: list[Run], quiet: bool) -> SeedsOutcome:
    """Each with workers of its own, which may keep what they did last."""
    done, failed, interrupted = list(runs), [], None
    for i, run in enumerate(runs):
        if run.iteration == run.config.iterations:
            continue
        try:
            with closing(run.config.setting()) as setting:
                outcome = go_on(run, traced_iteration(run.config, setting, run.state), quiet)
            done[i], interrupted = outcome.run, outcome.interrupted
        except NonFiniteError:
            done[i] = load(run.folder.path)
            failed.append(done[i])
        if interrupted:
            break
    return SeedsOutcome(done, failed, interrupted)


def _side_by_side(traced: Lowered, runs: list[Run], quiet: bool) -> SeedsOutcome:
    states = _stacked(runs)
    done, total = max(run.iteration for run in runs), runs[0].config.iterations
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(locked(run.folder))
            save_config(run.config, run.folder.config)
        interrupts = stack.enter_context(Interrupts())
        writers = [stack.enter_context(MetricsWriter(run.folder.path, run.iteration)) for run in runs]
        progress = stack.enter_context(TrainingProgress(total, done, quiet))
        progress.waiting(f"compiling the iteration of {len(runs)} seeds")
        fleet = _Fleet(runs, writers, traced())
        states = fleet.train(states, interrupts, progress)
    runs = [replace(run, state=_one(states, i)) for i, run in enumerate(runs)]
    failed = [run for run, alive in zip(runs, fleet.alive, strict=True) if not alive]
    return SeedsOutcome(runs, failed, interrupts.received if fleet.going() else None)


def _traced_seeds(config: Config, setting: Setting, states: TrainingState) -> Lowered:
    iterate = iteration_of(config, setting)

    def advance(state: TrainingState) -> tuple[TrainingState, Metrics]:
        following, metrics = iterate(state)
        moves = (metrics["finite"] > 0) & (state.iteration < config.iterations)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), following, state), metrics

    compilable: Any = eqx.filter_jit(eqx.filter_vmap(advance))
    return compilable.lower(states).compile


def _stacked(runs: list[Run]) -> TrainingState:
    return jax.tree.map(lambda *x: jnp.stack(x), *[run.state for run in runs])


def _one(states: TrainingState, i: int) -> TrainingState:
    return jax.tree.map(lambda x: x[i], states)


class _Fleet:
    """Runs that are trained together, each from the iteration it is at."""

    def __init__(self, runs: list[Run], writers: list[MetricsWriter], iterate: Iteration) -> None:
        self._runs, self._writers, self._iterate = runs, writers, iterate
        self._total = runs[0].config.iterations
        self._done = [run.iteration for run in runs]
        self.alive = [True] * len(runs)

    def train(
        self, states: TrainingState, interrupts: Interrupts, progress: TrainingProgress
    ) -> TrainingState:
        """To the end, or until interrupted or none is left. Checkpoints are written either way."""
        progress.waiting("sampling and learning")
        while (going := self.going()) and not interrupts.received:
            began = time.monotonic()
            states, metrics = self._iterate(states)
            values = {name: np.asarray(value, float) for name, value in metrics.items()}
            values["seconds"] = np.full(len(self._runs), time.monotonic() - began)
            finite = values.pop("finite") > 0
            for i in going:
                self._record(
                    i, {name: float(value[i]) for name, value in values.items()}, bool(finite[i]), progress
                )
            progress.completed(
                max(self._done), {name: float(np.mean(v[going])) for name, v in values.items()}
            )
            self._save(
                states, [i for i in going if self._done[i] % self._runs[i].config.checkpoint_every == 0]
            )
        self._save(states, range(len(self._runs)))
        return states

    def going(self) -> list[int]:
        """Those that are neither at their end nor stopped."""
        return [i for i, done in enumerate(self._done) if self.alive[i] and done < self._total]

    def _record(self, i: int, metrics: Mapping[str, float], finite: bool, progress: TrainingProgress) -> None:
        self._writers[i].write(self._done[i] + 1, metrics)
        if finite:
            self._done[i] += 1
            return
        self.alive[i] = False
        progress.say(f"seed {self._runs[i].config.seed} stops: its loss or a parameter is not finite.")

    def _save(self, states: TrainingState, which: Iterable[int]) -> None:
        for i in which:
            if not self._runs[i].folder.checkpoint(self._done[i]).exists():
                self._runs[i].folder.save(_one(states, i))
