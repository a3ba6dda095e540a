"""Training into a run folder, and resuming it; of one seed or of many.

OUT/                          the run folder of one seed
OUT/seed000/, OUT/seed001/    those of many seeds, each of which can be evaluated, loaded and resumed

Many seeds are trained in one program, where they share every call, or one after another where their
environments cannot be compiled. One seed's result does not depend on how many others there are, but for
rounding: a program for many is not compiled to the same instructions as a program for one.
"""

import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from surefoot.experiment.callbacks import Callback
from surefoot.experiment.config import Config
from surefoot.experiment.files import quoted
from surefoot.experiment.folder import RunFolder, locked, make_new, must_be_new, seed_folders
from surefoot.experiment.learner import Learner, TrainingState, compiled_initial_state, initial_state
from surefoot.experiment.loop import stack
from surefoot.experiment.memory import check_memory
from surefoot.experiment.run import Run, load, raise_failure, states_of, train_runs
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.experiment.timeline import TimelineWriter, sampler_timeline, timeline_path
from surefoot.options import UserError, check
from surefoot.rules.base import Metrics
from surefoot.samplers.timeline import Timeline


@dataclass(frozen=True)
class Outcome:
    """The outcome of `train` or `resume`."""

    run: Run
    interrupted: signal.Signals | None
    """The signal that ended it before its last iteration; None if it is complete."""


@dataclass(frozen=True)
class SeedsOutcome:
    """The outcome of `train_seeds` or `resume_seeds`."""

    runs: list[Run]
    failed: list[Run]
    """Those of `runs` that stopped at a loss or parameter that is not finite, at their last good state."""
    interrupted: signal.Signals | None
    """The signal that ended it before the last iteration; None if it is complete."""


def train(
    config: Config,
    out: str | Path,
    *,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
    trace: bool = False,
) -> Outcome:
    """Trains from the beginning, into a new folder. With `quiet` off, progress goes to standard error; each
    callback is given an `Event` after every iteration. `trace` leaves `timeline.jsonl`, with what worker
    processes and the learner do when.

    Raises `UserError` if the folder exists or a part does not fit another, before anything is written, and
    `NonFiniteError` as it says.
    """
    # First, because to trace what would then be refused takes seconds.
    must_be_new(Path(out))
    check_round_trip(config)
    with closing(Learner(config)) as learner:
        state = compiled_initial_state(config)
        timeline = sampler_timeline(learner.setting.sampler) if trace else None
        lowered = learner.lower(state)
        run = _new_run(config, Path(out), state)
        return _go_on(run, lowered, quiet, callbacks, timeline)


def resume(
    run: str | Path,
    *,
    iterations: int | None = None,
    quiet: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Goes on with a run from its latest checkpoint, to the same end as if it had never stopped.

    `iterations` sets a new total, for longer training. A run with a timeline goes on writing it. A run that
    lacks nothing but its evaluation is returned as it is. Raises `UserError` if the run cannot be read or is
    at its end, `NonFiniteError` as it says.
    """
    (found,) = _to_resume([load(run)], Path(run), iterations)
    if found.iteration == found.config.iterations:
        with locked(found.folder):
            save_config(found.config, found.folder.config)
        return Outcome(found, None)
    with closing(Learner(found.config)) as learner:
        traced = timeline_path(found.folder.path).exists()
        timeline = learner.setting.sampler.timeline if traced else None
        return _go_on(found, learner.lower(found.state), quiet, callbacks, timeline)


def train_seeds(config: Config, seeds: int, out: str | Path, *, quiet: bool = True) -> SeedsOutcome:
    """Trains `seeds` runs with the seeds `config.seed`, `config.seed` + 1, …, into new folders under `out`.

    A seed that fails stops; the others go on. Raises `UserError` as `train` does.
    """
    check(seeds >= 1, "seeds", seeds, "1 or more")
    must_be_new(Path(out))
    check_round_trip(config)
    check_memory(config, seeds)
    configs = [replace(config, seed=config.seed + i) for i in range(seeds)]
    states = initial_states(config, seeds)
    with closing(Learner(config)) as learner:
        program = _program(learner, states)
        make_new(Path(out))
        runs = [
            _new_run(c, Path(out) / f"seed{c.seed:03d}", jax.tree.map(lambda x, i=i: x[i], states))
            for i, c in enumerate(configs)
        ]
        return program(runs, quiet)


def resume_seeds(out: str | Path, *, iterations: int | None = None, quiet: bool = True) -> SeedsOutcome:
    """Goes on with the runs under `out`, all together, to the same end as if they had never stopped.

    A seed that had failed fails again, at once. Raises `UserError` as `resume` does.
    """
    runs = [load(folder) for folder in seed_folders(Path(out))]
    if not runs:
        raise UserError(f"There are no runs of many seeds at {out}.")
    runs = _to_resume(runs, Path(out), iterations)
    with closing(Learner(runs[0].config)) as learner:
        return _program(learner, stack(run.state for run in runs))(runs, quiet)


def initial_states(config: Config, seeds: int) -> TrainingState:
    """The states before the first iteration, with a leading axis of `seeds`."""
    numbers = jnp.asarray(np.arange(config.seed, config.seed + seeds, dtype=np.uint32))

    def state(seed: UInt[Array, ""]) -> TrainingState:
        return initial_state(config, jax.random.key(seed))

    return eqx.filter_jit(eqx.filter_vmap(state))(numbers)


def lower_seeds(learner: Learner, states: TrainingState) -> Callable[[], Any]:
    """Traces one iteration of every seed, and returns what compiles it. A seed that is at its end, or whose
    result is not finite, keeps its state."""

    def advance(state: TrainingState) -> tuple[TrainingState, Metrics]:
        following, metrics = learner.step(state)
        moves = (metrics["finite"] > 0) & (state.iteration < learner.config.iterations)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), following, state), metrics

    compilable: Any = eqx.filter_jit(eqx.filter_vmap(advance))
    return compilable.lower(states).compile


def _new_run(config: Config, path: Path, state: TrainingState) -> Run:
    folder = RunFolder.create(path)
    save_config(config, folder.config)
    folder.save(state)
    return Run(folder, config, state)


def _to_resume(runs: list[Run], path: Path, iterations: int | None) -> list[Run]:
    """The runs with their new total. Raises `UserError` if there is nothing to do."""
    if iterations is not None:
        runs = [replace(run, config=replace(run.config, iterations=iterations)) for run in runs]
    done, wanted = max(run.iteration for run in runs), runs[0].config.iterations
    if done > wanted:
        raise UserError(f"{path} is at iteration {done} already, beyond {wanted}.")
    if all(run.iteration == wanted and run.folder.evaluation.exists() for run in runs):
        raise UserError(
            f"{path} is complete: {done} of {wanted} iterations. "
            f"To train it longer: surefoot resume {quoted(path)} --iterations {2 * wanted}"
        )
    return runs


def _go_on(
    run: Run,
    lowered: Callable[[], Any],
    quiet: bool,
    callbacks: Sequence[Callback],
    timeline: Timeline | None,
) -> Outcome:
    """Trains a run to its end, or until it is interrupted. A timeline that is given is written."""
    if timeline is not None:
        callbacks = [*callbacks, TimelineWriter(run.folder.path, timeline, run.iteration)]
    outcome = train_runs([run], lowered, quiet=quiet, callbacks=callbacks)
    raise_failure(run, outcome)
    return Outcome(replace(run, state=outcome.state), outcome.interrupted)


def _program(learner: Learner, states: TrainingState) -> Callable[[list[Run], bool], SeedsOutcome]:
    """The way that runs are trained: side by side where the sampler can be compiled for many, otherwise one
    after another. Whatever does not fit together is found here."""
    if not learner.setting.sampler.traceable:
        learner.lower(jax.tree.map(lambda x: x[0], states))
        return _one_after_another
    lowered = lower_seeds(learner, states)

    def side_by_side(runs: list[Run], quiet: bool) -> SeedsOutcome:
        outcome = train_runs(runs, lowered, many=True, quiet=quiet)
        done = [
            replace(run, state=state) for run, state in zip(runs, states_of(outcome, many=True), strict=True)
        ]
        failed = [run for run, member in zip(done, outcome.members, strict=True) if member.failed]
        return SeedsOutcome(done, failed, outcome.interrupted)

    return side_by_side


def _one_after_another(runs: list[Run], quiet: bool) -> SeedsOutcome:
    """Each with workers of its own, which may keep the environments of the run before."""
    done, failed = list(runs), []
    for i, run in enumerate(runs):
        if run.iteration == run.config.iterations:
            continue
        with closing(Learner(run.config)) as learner:
            outcome = train_runs([run], learner.lower(run.state), quiet=quiet)
        done[i] = replace(run, state=outcome.state)
        failed += [done[i]] * outcome.members[0].failed
        if outcome.interrupted:
            return SeedsOutcome(done, failed, outcome.interrupted)
    return SeedsOutcome(done, failed, None)
