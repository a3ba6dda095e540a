"""Evaluation: the return of a policy on tasks, before adaptation and after each step of it."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from surefoot.algorithms import AbstractAdapter, Adaptation, adapt_to_tasks, episode_returns
from surefoot.algorithms.adaptation import phases_of_all, sample_once, sample_tasks
from surefoot.algorithms.base import LearnerState, jit_from_host
from surefoot.envs import AbstractFamily
from surefoot.experiment.config import Config, Evaluation
from surefoot.experiment.memory import check_evaluation_memory
from surefoot.options import UserError, check
from surefoot.policies import AbstractPolicy, ModePolicy
from surefoot.rules import AbstractRule
from surefoot.samplers import AbstractSampler
from surefoot.types import Key, Rollout, Task

_STEPS_AT_ONCE = 100_000
"""Steps of the environment that are kept in memory at a time: tasks are evaluated in chunks."""
_TASKS_SHOWN = 4
"""Number of tasks of which a result keeps the rollouts, for pictures."""
_MODE_STREAM = 0x30DE
"""Folded into the key of a phase for the episodes that evaluate the mode: a number that no task has."""


@dataclass(frozen=True)
class EvaluationResult:
    """The returns of an evaluation. `print` shows them as a table."""

    preset: str
    iteration: int
    options: Evaluation
    episode_returns: Float[np.ndarray, "step task episode"]
    """Undiscounted return of each episode, before adaptation (step 0) and after each step."""
    tasks: Task
    """The tasks, with a leading axis."""
    rollouts: tuple[Rollout, ...]
    """For each step, the episodes of the first few tasks: axes `[task episode time ...]`."""
    cut: int | None = None
    """Number of steps after which episodes were cut, if the environment has no time limit of its own."""

    @property
    def returns(self) -> Float[np.ndarray, "step task"]:
        """The mean return of each task's episodes."""
        return self.episode_returns.mean(axis=-1)

    def summary(self) -> dict[str, Any]:
        """The result as `surefoot evaluate --json` prints it."""
        return {
            "preset": self.preset,
            "iteration": self.iteration,
            "seed": self.options.seed,
            "tasks": len(self.returns[0]),
            "episodes": self.options.episodes,
            **({} if self.cut is None else {"cut": self.cut}),
            "actions": "mode" if self.options.deterministic else "sampled",
            "returns": [
                {
                    "step": step,
                    "mean": float(np.mean(row)),
                    "ci95": confidence_interval(self._sample(step)),
                    "tasks": row.tolist(),
                }
                for step, row in enumerate(self.returns)
            ],
        }

    def __str__(self) -> str:
        actions = ", by the mode of the policy" if self.options.deterministic else ""
        lines = [f"{self.preset}, iteration {self.iteration}: {self.scope}{actions}"]
        for row in self.summary()["returns"]:
            interval = f"  (95% interval {row['ci95'][0]:.2f} … {row['ci95'][1]:.2f})" if row["ci95"] else ""
            lines.append(f"step {row['step']}  mean return {row['mean']:.2f}{interval}")
        return "\n".join(lines)

    @property
    def scope(self) -> str:
        """The number of tasks and episodes, in words."""
        tasks, episodes = len(self.returns[0]), self.options.episodes
        said = f"{episodes} episode{'s' * (episodes != 1)}"
        said = said if tasks == 1 else f"{tasks} tasks, {said} a step"
        return said if self.cut is None else f"{said}, cut after {self.cut:,} steps (no time limit)"

    def _sample(self, step: int) -> np.ndarray:
        """The sample that the interval is computed from: tasks, or the episodes of the only one."""
        return self.returns[step] if len(self.returns[step]) > 1 else self.episode_returns[step, 0]


def confidence_interval(values: np.ndarray) -> list[float] | None:
    """The 95% interval of the mean, by Student's t; None of a single value, whose spread is unknown."""
    n = len(values)
    if n < 2:
        return None
    half = stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def default_evaluation(config: Config) -> Evaluation:
    """The evaluation of a run unless the user asks for another: without adaptation if the algorithm does not
    train for it, and no longer than a trial."""
    steps = config.evaluation.steps if config.algorithm.adapts else 0
    if config.adapts_within_trials and config.env.trial_episodes is not None:
        steps = min(steps, config.env.trial_episodes - 1)
    return replace(config.evaluation, steps=steps)


def evaluation_keys(seed: int) -> tuple[Key, Key]:
    """The keys of an evaluation's tasks and of its rollouts: of another stream than training's, whatever the
    two seeds are."""
    task_key, rollout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0x5EED))
    return task_key, rollout_key


def evaluate(
    config: Config,
    learner: LearnerState,
    iteration: int,
    options: Evaluation | None = None,
    inner: AbstractRule | None = None,
    tasks: Task | None = None,
) -> EvaluationResult:
    """Adapts the policy to tasks, each from the trained parameters, with fresh rollouts at every step.

    Every task and step has the same number of episodes. Without `options`, those of the configuration hold.
    `inner` replaces the rule that the policy adapts by. `tasks`, with a leading axis, replace those that are
    drawn with the options' seed. With `options.deterministic` the policy adapts on sampled episodes and is
    evaluated on others, by its mode; one that adapts within trials acts by its mode throughout.
    """
    options = options or default_evaluation(config)
    check_evaluation_memory(config, options)
    (result,) = _evaluate(config, learner, iteration, options, inner, tasks, [options.deterministic])
    return result


def evaluate_both(
    config: Config, learner: LearnerState, iteration: int
) -> tuple[EvaluationResult, EvaluationResult]:
    """The evaluation at the end of training: by sampled actions, and by the mode."""
    options = default_evaluation(config)
    sampled, mode = _evaluate(config, learner, iteration, options, None, None, [False, True])
    return sampled, mode


def _evaluate(
    config: Config,
    learner: LearnerState,
    iteration: int,
    options: Evaluation,
    inner: AbstractRule | None,
    tasks: Task | None,
    kinds: list[bool],
) -> list[EvaluationResult]:
    """A result for each of `kinds`: False for sampled actions, True for the mode."""
    config = replace(config, evaluation=options)
    if not config.adapts_within_trials and options.steps:
        config.estimation.validate(options.episodes)
    task_key, rollout_key = evaluation_keys(options.seed)
    one_task = tasks is None and not config.algorithm.adapts and options.tasks > 1
    if tasks is None:
        tasks = config.algorithm.evaluation_tasks(config.env, learner, task_key, options.tasks)
    returns: dict[bool, list[np.ndarray]] = {kind: [] for kind in kinds}
    shown: dict[bool, tuple[Rollout, ...]] = {}
    with closing(config.episode_setting(options.episodes)) as setting:
        assert isinstance(setting.sampler, AbstractSampler)
        adapter = config.algorithm.adapter(setting.estimator, learner, inner)
        for first, part in _chunks(tasks, options.episodes * config.episodic_env.horizon):
            adapted = sample_once if adapter.adapts_within_trials or not options.steps else adapt_to_tasks
            adaptation = adapted(
                setting.sampler, adapter, learner.policy, part, rollout_key, options.steps, first
            )
            for kind in kinds:
                rollouts = adaptation.rollouts
                if kind:
                    rollouts = _by_mode(setting.sampler, adapter, adaptation, part, rollout_key, first)
                returns[kind].append(np.stack([np.asarray(episode_returns(r)) for r in rollouts]))
                shown.setdefault(kind, jax.tree.map(lambda x: x[:_TASKS_SHOWN], rollouts))
    found = {kind: np.concatenate(returns[kind], axis=1) for kind in kinds}
    for one in found.values():
        _must_be_finite(one)
    if one_task:  # there are no others
        found = {kind: one.reshape(len(one), 1, -1) for kind, one in found.items()}
        tasks = jax.tree.map(lambda x: x[:1], tasks)
        options = replace(options, tasks=1, episodes=options.tasks * options.episodes)
    return [
        EvaluationResult(
            config.preset,
            iteration,
            replace(options, deterministic=kind),
            found[kind],
            tasks,
            shown[kind],
            None if config.env.horizon else options.horizon,
        )
        for kind in kinds
    ]


def _must_be_finite(returns: Float[np.ndarray, "step task episode"]) -> None:
    """Raises `UserError` if a return is not finite."""
    bad = np.argwhere(~np.isfinite(returns))
    if len(bad):
        step, task, episode = bad[0].tolist()
        raise UserError(
            f"In the evaluation, episode {episode} of task {task} after {step} steps of adaptation has the "
            f"return {returns[step, task, episode]}: the environment gave a reward that is not finite. "
            "Training is kept. surefoot check env looks for such rewards."
        )


def _chunks(tasks: Task, steps_of_task: int) -> Iterator[tuple[int, Task]]:
    """The tasks in chunks of nearly equal size, each with the number of its first task."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    chunks = -(-count * steps_of_task // _STEPS_AT_ONCE)
    size = -(-count // min(chunks, count))
    for first in range(0, count, size):
        yield first, jax.tree.map(lambda x, first=first: x[first : first + size], tasks)


def _by_mode(
    sampler: AbstractSampler,
    adapter: AbstractAdapter,
    adaptation: Adaptation,
    tasks: Task,
    key: Key,
    first: int,
) -> tuple[Rollout, ...]:
    """For each phase, episodes by the mode of the policies. Within a trial, a policy adapts on them too."""
    if adapter.adapts_within_trials:
        mode_key = jax.random.fold_in(jax.random.fold_in(key, 0), _MODE_STREAM)
        acting = _modes(adapter, adaptation.learners[0])
        trials = sample_tasks(sampler, acting, tasks, mode_key, first)
        return phases_of_all(adapter, trials, len(adaptation.rollouts) - 1)
    return tuple(
        sample_tasks(
            sampler,
            _modes(adapter, learners),
            tasks,
            jax.random.fold_in(jax.random.fold_in(key, phase), _MODE_STREAM),
            first,
        )
        for phase, learners in enumerate(adaptation.learners)
    )


@jit_from_host
def _modes(adapter: AbstractAdapter, learners: Any) -> AbstractPolicy:
    return ModePolicy(eqx.filter_vmap(adapter.acting)(learners))


def adapt(
    config: Config,
    learner: LearnerState,
    tasks: Task,
    key: Key,
    *,
    steps: int,
    episodes: int | None = None,
    inner: AbstractRule | None = None,
) -> tuple[AbstractAdapter, Adaptation]:
    """Adapts a trained policy to tasks (with a leading task axis), as its configuration says or as it is
    told; the adapter, and what came of it."""
    with closing(config.episode_setting(config.episodes if episodes is None else episodes)) as setting:
        adapter = config.algorithm.adapter(setting.estimator, learner, inner)
        return adapter, adapt_to_tasks(setting.sampler, adapter, learner.policy, tasks, key, steps)


def stack_tasks(env: AbstractFamily, tasks: Sequence[Task] | Task) -> Task:
    """Tasks of the user's own, a sequence of them or what `sample_tasks` gives, as one pytree with a leading
    axis. A task that is one array may be given as a number or a sequence of numbers. Raises `UserError` for
    what is no task of `env`."""
    example = jax.tree.map(lambda x: x[0], env.sample_tasks(jax.random.key(0), 1))
    if not isinstance(example, jax.Array) and jax.tree.structure(tasks) == jax.tree.structure(example):
        tasks = [jax.tree.map(lambda x, i=i: x[i], tasks) for i in range(len(jax.tree.leaves(tasks)[0]))]
    check(hasattr(tasks, "__len__") and len(tasks) > 0, "tasks", tasks, "one task or more")

    def arrays(task: Task) -> Task:
        if isinstance(example, jax.Array):
            return jnp.asarray(task, example.dtype)
        return jax.tree.map(lambda wanted, leaf: jnp.asarray(leaf, wanted.dtype), example, task)

    found = []
    for task in tasks:
        try:
            found.append(arrays(task))
            same = jax.tree.map(jnp.shape, found[-1]) == jax.tree.map(jnp.shape, example)
        except (TypeError, ValueError):
            same = False
        check(same, "task", task, f"as a task of {type(env).__name__} is: {eqx.tree_pformat(example)}")
    return jax.tree.map(lambda *x: jnp.stack(x), *found)
