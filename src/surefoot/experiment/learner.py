"""A learner: training in memory, without a folder.

`Learner.init` and `Learner.step` are pure functions: where the environment is written in JAX they can be
jitted, scanned and vmapped, over seeds and over numeric options.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from numbers import Number
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from surefoot.algorithms import AbstractAlgorithm, LearnerState, Setting
from surefoot.experiment.callbacks import Callback, Event, as_callbacks
from surefoot.experiment.config import Config
from surefoot.experiment.evaluation import (
    EvaluationResult,
    adapt,
    default_evaluation,
    evaluate,
    evaluation_keys,
    stack_tasks,
)
from surefoot.experiment.exporting import export_policy
from surefoot.experiment.folder import RunFolder, must_be_new
from surefoot.experiment.loggers import hyperparameters
from surefoot.experiment.loop import Member, check_iterations, run_loop, warn_of_settings
from surefoot.experiment.memory import check_memory
from surefoot.experiment.metrics import MetricsWriter
from surefoot.experiment.presets import configure, with_decay
from surefoot.experiment.progress import TrainingProgress
from surefoot.experiment.serialise import check_round_trip, save_config
from surefoot.experiment.stablehlo import Platform
from surefoot.options import UserError, check, fits
from surefoot.policies import AbstractPolicy, PolicyOptions
from surefoot.rules import AbstractRule
from surefoot.rules.base import Metrics
from surefoot.types import Key, Task, is_key

Step = Callable[["TrainingState"], tuple["TrainingState", Metrics]]


class TrainingState(eqx.Module):
    """Everything that training goes on from."""

    learner: LearnerState
    key: Key
    """The root of every iteration's keys."""
    iteration: Int[Array, ""]
    """Number of iterations that have been completed."""


class Learner:
    """Trains a policy, in memory.

        learner = Learner("cartpole/ppo", seed=0)
        learner.train(100)
        print(learner.evaluate())

    A context manager: it gives back worker processes and threads at its end, as `close` does.
    """

    def __init__(
        self,
        experiment: str | Config | None = None,
        *,
        env: Any = None,
        algorithm: AbstractAlgorithm | str | None = None,
        policy: PolicyOptions | str | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """A learner of a preset's name, of a configuration, or of parts.

        `env` is one of the library's environments or your own, or a Gymnasium environment as it is made: a
        class or a function without arguments. `algorithm` is an algorithm, or the name of one for any
        environment: "ppo", "trpo", "npg" or "maml-trpo"; `policy` is a policy's options, or its name.
        `fields` are those of `Config`, such as `seed`, `iterations` and `episodes`; `options` has others by
        their names on the command line, such as `{"rule.lr": 1e-3}`. Raises `UserError` for what does not
        exist or does not fit.
        """
        self.config = configure(
            experiment, env=env, algorithm=algorithm, policy=policy, options={**fields, **(options or {})}
        )
        self.history: list[dict[str, Any]] = []
        """The metrics of every iteration that `train` has done here."""
        self._state: TrainingState | None = None
        self._compiled: Step | None = None

    def init(self, key: Key | None = None) -> TrainingState:
        """The state before the first iteration; by default that of the configuration's seed."""
        key = jax.random.key(self.config.seed) if key is None else key
        return initial_state(self.config, key)

    def step(self, state: TrainingState) -> tuple[TrainingState, Metrics]:
        """One iteration: the next state, and metrics.

        Its keys follow from the run's key and the iteration's number. Beside the algorithm's metrics it
        returns `finite`: 1 if the loss and all that was learned is finite, otherwise 0.
        """
        key = jax.random.fold_in(state.key, state.iteration)
        algorithm = self.config.algorithm
        learner, metrics = algorithm.iterate(self.setting, state.learner, key)
        numbers = jax.tree.leaves(eqx.filter(algorithm.learned(learner), eqx.is_inexact_array))
        finite = _all_finite([metrics["loss"], *numbers])
        following = TrainingState(learner, state.key, state.iteration + 1)
        return following, {**metrics, "finite": finite.astype(metrics["loss"].dtype)}

    def lower(self, state: TrainingState) -> Callable[[], Step]:
        """Traces a step for states like this one, and returns what compiles it as far as it can be. Raises
        `UserError` for whatever does not fit together."""
        if self.config.algorithm.in_one_program(self.setting, state.learner):
            compilable: Any = eqx.filter_jit(self.step)
            return compilable.lower(state).compile
        eqx.filter_eval_shape(self.step, state)
        return lambda: self.step

    def compile(self, state: TrainingState) -> Step:
        """A step for states like this one, compiled as far as it can be."""
        return self.lower(state)()

    def _compile_once(self) -> Step:
        if self._compiled is None:
            self._compiled = self.compile(self.state)
        return self._compiled

    @property
    def state(self) -> TrainingState:
        """The state of training by now."""
        if self._state is None:
            self._state = compiled_initial_state(self.config)
        return self._state

    @state.setter
    def state(self, state: TrainingState) -> None:
        self._state = state

    @property
    def iteration(self) -> int:
        """Number of iterations of training so far."""
        return int(self.state.iteration)

    @property
    def policy(self) -> AbstractPolicy:
        """The policy as it acts by now: call it on observations for a distribution over actions."""
        learner = self.state.learner
        return self.config.estimator.acting(learner.policy, learner.scales)

    def train(
        self,
        iterations: int | None = None,
        *,
        callback: Callback | Sequence[Callback] = (),
        progress: bool = True,
    ) -> "Learner":
        """Trains for more iterations (by default those of the configuration), and returns itself.

        After each iteration every callback is given an `Event`; one that returns True stops training.
        `progress` is shown on standard error. A learning rate that ends with the configuration's iterations
        ends with these, if they are the first. Ctrl-C and SIGTERM have their effect after the iteration,
        whose state is kept. Raises `NonFiniteError` where a loss or a parameter is not finite; the state
        before it is kept.
        """
        more = self.config.iterations if iterations is None else iterations
        check_iterations(more)
        callbacks = as_callbacks(callback)
        if self.iteration == 0 and more:
            ended = with_decay(replace(self.config, iterations=more), self.config)
            if ended.algorithm != self.config.algorithm:
                self.config, self._compiled = ended, None
        total = self.iteration + more
        warn_of_settings(self.config, total)

        def keep(event: Event) -> None:
            """For callbacks that use the learner, and for whoever goes on after an error in one of them."""
            self.history.append(event.row())
            self.state = event.state

        member = Member(self.iteration, [keep, *callbacks])
        waiting = "sampling and learning" if self._compiled else "compiling the iteration"
        shown = [TrainingProgress(total, self.iteration, waiting)] if progress else []
        outcome = run_loop(self.config, self._compile_once, self.state, [member], total, callbacks=shown)
        outcome.raise_failure()
        outcome.raise_signal()
        return self

    def evaluate(
        self,
        tasks: int | Sequence[Task] | Task | None = None,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        seed: int | None = None,
        deterministic: bool | None = None,
        inner: AbstractRule | None = None,
    ) -> EvaluationResult:
        """The policy's returns on tasks, before adaptation and after each step of it.

        `tasks` is a number of held-out tasks, or several of your own: a sequence, or what the environment's
        `sample_tasks` gives. What is not given is as the configuration says. With `deterministic` the policy
        is evaluated by its mode.
        """
        given = {"steps": steps, "episodes": episodes, "seed": seed, "deterministic": deterministic}
        own = None
        if tasks is not None and not isinstance(tasks, str | Number):
            own = stack_tasks(self.config.env, tasks)
            tasks = len(jax.tree.leaves(own)[0])
        given["tasks"] = tasks
        options = replace(
            default_evaluation(self.config), **{k: v for k, v in given.items() if v is not None}
        )
        return evaluate(self.config, self.state.learner, self.iteration, options, inner, own)

    def adapt(
        self,
        task: Task,
        key: Key | None = None,
        *,
        steps: int = 1,
        episodes: int | None = None,
        inner: AbstractRule | None = None,
    ) -> AbstractPolicy:
        """The policy after `steps` steps of adaptation to one task, each on fresh episodes.

        Without a `key`, that of an evaluation with the configuration's seed is used. `inner` replaces the
        rule that the policy adapts by, `episodes` the number of episodes that it was trained with.
        """
        key = evaluation_keys(self.config.evaluation.seed)[1] if key is None else key
        check(is_key(key), "key", key, "a random key, jax.random.key(0)")
        check(fits(steps, int) and steps >= 0, "steps", steps, "a whole number, 0 or more")
        adapter, adaptation = adapt(
            self.config,
            self.state.learner,
            stack_tasks(self.config.env, [task]),
            key,
            steps=steps,
            episodes=episodes,
            inner=inner,
        )
        return adapter.acting(jax.tree.map(lambda x: x[0], adaptation.learners[-1]))

    def save(self, folder: str | Path) -> None:
        """Writes a run folder, which `surefoot.load`, `surefoot resume` and the other commands take. Raises
        `UserError` if there is anything at `folder`, or if the configuration cannot be written."""
        must_be_new(Path(folder))
        config = replace(self.config, iterations=max(self.config.iterations, self.iteration))
        check_round_trip(config)
        made = RunFolder.create(Path(folder))
        save_config(config, made.config)
        # Training that went on from an earlier state has done its iterations twice.
        rows = {int(row["iteration"]): row for row in self.history}
        # What came before a state that was set from elsewhere is not this training's.
        first = self.iteration + 1
        while first - 1 in rows:
            first -= 1
        with closing(MetricsWriter(made.path, 0, hyperparameters(config))) as writer:
            for iteration in range(first, self.iteration + 1):
                writer.write(rows[iteration])
        made.save(self.state)

    def export(
        self,
        folder: str | Path,
        *,
        platforms: Sequence[Platform] = ("cpu", "cuda"),
        episodes: int | None = None,
    ) -> dict[str, Any]:
        """Writes the policy, and its step of adaptation by gradient, to a new folder: as StableHLO, which
        runs without this library, and as plain arrays for NumPy. Returns what `export.json` there says.

        `platforms` are those that the StableHLO runs on. A step of adaptation takes `episodes` episodes, by
        default as many as in training. Raises `UserError` if there is anything at `folder`.
        """
        return export_policy(
            self.config, self.state.learner, Path(folder), platforms=platforms, episodes=episodes
        )

    def close(self) -> None:
        """Gives back worker processes, threads and memory of the sampler."""
        if "setting" in vars(self):
            self.setting.close()

    def __enter__(self) -> "Learner":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @cached_property
    def setting(self) -> Setting:
        """The sampler and the estimator."""
        return self.config.setting()


def initial_state(config: Config, key: Key) -> TrainingState:
    """The training state before the first iteration."""
    policy_key, start_key, iterations_key = jax.random.split(key, 3)
    policy = config.build_policy(policy_key)
    with closing(config.setting()) as setting:
        learner = config.algorithm.init(setting, policy, start_key)
    state = TrainingState(learner, iterations_key, jnp.zeros((), jnp.int32))
    # A weakly typed array compiles to another program than the strongly typed one that a checkpoint gives
    # back, and another program rounds differently: a resumed run would not equal an uninterrupted one.
    return jax.tree.map(lambda x: x if is_key(x) else x.astype(x.dtype), state)


def compiled_initial_state(config: Config) -> TrainingState:
    """The training state before the first iteration: all of it follows from the configuration. Raises
    `UserError` if training would need more memory than there is, or if the task cannot be sampled."""
    try:
        return _compiled_initial_state(config)
    except jax.errors.JaxRuntimeError as error:
        # An error of a callback, such as the one that samples a task of Gymnasium's, comes as text.
        _, raised, message = str(error).rpartition(f"{UserError.__name__}: ")
        if not raised:
            raise
        raise UserError(message.splitlines()[0]) from error


@eqx.filter_jit
def _compiled_initial_state(config: Config) -> TrainingState:
    check_memory(config)
    return initial_state(config, jax.random.key(config.seed))


@jax.jit
def _all_finite(arrays: list[Array]) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in arrays]))
