"""The training loop, and resuming it.

iteration    sample tasks, play and adapt, improve the policy: one compiled call, or several where episodes
             are played from the host or parts are computed side by side
checkpoint   the whole training state on disk, after every few iterations, at the end, and on interruption
interruption the first Ctrl-C or SIGTERM: the iteration is finished and a checkpoint written
"""

import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from filelock import AcquireReturnProxy, FileLock, Timeout
from jaxtyping import Array

from surefoot.algorithms import Setting
from surefoot.experiment.config import Config
from surefoot.experiment.interrupts import Interrupts
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.run import Run, RunFolder, TrainingState, initial_state, load, must_be_new
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.options import UserError
from surefoot.rules.base import Metrics

Iteration = Callable[[TrainingState], tuple[TrainingState, Metrics]]

Lowered = Callable[[], Iteration]
"""An iteration that has been traced, and will be compiled as far as it can be."""


class NonFiniteError(Exception):
    """Training produced a loss or a parameter that is not a finite number. The message names the last good
    checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` or `resume` ended."""

    run: Run
    interrupted: signal.Signals | None
    """The signal that ended it before its last iteration; None if it is complete."""


def train(config: Config, out: str | Path, *, quiet: bool = True) -> Outcome:
    """Trains from the beginning, into a new folder. With `quiet` off, progress goes to standard error.

    Raises `UserError` if the folder exists or a part does not fit another, before anything is written, and
    `NonFiniteError` as it says.
    """
    # Said at once: to trace what would then be refused takes seconds.
    must_be_new(Path(out))
    check_round_trip(config)
    with closing(config.setting()) as setting:
        state = initial_state(config)
        traced = traced_iteration(config, setting, state)
        folder = RunFolder.create(Path(out))
        save_config(config, folder.config)
        folder.save(state)
        return go_on(Run(folder, config, state), traced, quiet)


def resume(run: str | Path, *, iterations: int | None = None, quiet: bool = True) -> Outcome:
    """Goes on with a run from its latest checkpoint, to the same end as if it had never stopped.

    `iterations` sets a new total, for a run that should learn on. A run that lacks nothing but its evaluation
    is returned as it is. Raises `UserError` if the run cannot be read or is at its end, `NonFiniteError` as
    it says.
    """
    found = load(run)
    config = found.config if iterations is None else replace(found.config, iterations=iterations)
    if found.iteration > config.iterations:
        raise UserError(f"{run} is at iteration {found.iteration} already, beyond {config.iterations}.")
    if found.iteration == config.iterations and found.folder.evaluation.exists():
        raise UserError(
            f"{run} is complete: {found.iteration} of {config.iterations} iterations. "
            f"To learn on: surefoot resume {run} --iterations {2 * config.iterations}"
        )
    found = replace(found, config=config)
    if found.iteration == config.iterations:
        with locked(found.folder):
            save_config(config, found.folder.config)
        return Outcome(found, None)
    with closing(config.setting()) as setting:
        return go_on(found, traced_iteration(config, setting, found.state), quiet)


def locked(folder: RunFolder) -> AcquireReturnProxy:
    """The right to train a run, for a `with` block. Raises `UserError` if another process has it."""
    try:
        return FileLock(folder.path / ".lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another process is training {folder.path}; wait for it or stop it.") from None
    except OSError as error:
        raise UserError(f"The run in {folder.path} cannot be written to: {error.strerror}.") from error


def go_on(run: Run, traced: Lowered, quiet: bool) -> Outcome:
    """Trains a run to its end, or until it is interrupted."""
    with locked(run.folder), Interrupts() as interrupts:
        save_config(run.config, run.folder.config)
        state = _loop(run, traced, interrupts, quiet)
    complete = int(state.iteration) == run.config.iterations
    return Outcome(replace(run, state=state), None if complete else interrupts.received)


def _loop(run: Run, traced: Lowered, interrupts: Interrupts, quiet: bool) -> TrainingState:
    config, folder, state = run.config, run.folder, run.state
    writer = MetricsWriter(folder.path, run.iteration)
    with TrainingProgress(config.iterations, run.iteration, quiet) as progress:
        try:
            progress.waiting("compiling the iteration")
            iterate = traced()
            for iteration in range(run.iteration + 1, config.iterations + 1):
                if interrupts.received:
                    break
                if iteration > run.iteration + 1:  # the first compiles what it needs, where parts do
                    progress.waiting("sampling and learning")
                began = time.monotonic()
                following, metrics = iterate(state)
                values = {name: float(value) for name, value in metrics.items()}
                values["seconds"] = time.monotonic() - began
                finite = values.pop("finite")
                writer.write(iteration, values)
                if not finite:
                    raise _not_finite(folder, state, iteration)
                state = following
                progress.completed(iteration, values)
                if iteration % config.checkpoint_every == 0:
                    progress.waiting("writing a checkpoint")
                    folder.save(state)
        finally:
            writer.close()
        if not folder.checkpoint(int(state.iteration)).exists():
            folder.save(state)
    return state


def iteration_of(config: Config, setting: Setting) -> Iteration:
    """One iteration of training, as a function of the state alone; a pure one if the sampler is traceable.

    Its keys follow from the run's seed and the iteration's number alone. Beside the algorithm's metrics it
    returns `finite`: whether the loss is, and all that the next iteration goes on from.
    """

    def iterate(state: TrainingState) -> tuple[TrainingState, Metrics]:
        key = jax.random.fold_in(state.key, state.iteration)
        learner, metrics = config.algorithm.iterate(setting, state.learner, key)
        learned = learner.policy, learner.rule, learner.baselines, learner.scales
        numbers = jax.tree.leaves(eqx.filter(learned, eqx.is_inexact_array))
        finite = _all_finite([metrics["loss"], *numbers])
        following = TrainingState(learner, state.key, state.iteration + 1)
        return following, {**metrics, "finite": finite.astype(metrics["loss"].dtype)}

    return iterate


@jax.jit
def _all_finite(arrays: list[Array]) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in arrays]))


def traced_iteration(config: Config, setting: Setting, state: TrainingState) -> Lowered:
    """An iteration for states like this one, ready to be compiled. Whatever does not fit together is found
    here."""
    iterate = iteration_of(config, setting)
    if config.algorithm.in_one_program(setting, state.learner):
        compilable: Any = eqx.filter_jit(iterate)
        return compilable.lower(state).compile
    eqx.filter_eval_shape(iterate, state)
    return lambda: iterate


def compiled_iteration(config: Config, setting: Setting, state: TrainingState) -> Iteration:
    """An iteration for states like this one, compiled as far as it can be."""
    return traced_iteration(config, setting, state)()


def _not_finite(folder: RunFolder, state: TrainingState, iteration: int) -> NonFiniteError:
    good = folder.save(state)
    return NonFiniteError(
        f"Iteration {iteration} gave a loss or a parameter that is not finite, so training stopped. "
        f"The state before it is kept in {good}. Lower the learning rates, --rule.max-kl or --outer.max-kl, "
        "or look for rewards and observations that are not finite: surefoot check env."
    )
