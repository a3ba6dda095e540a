"""Evaluation: how well a policy adapts to tasks it has not seen."""

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from scipy.special import stdtrit

from surefoot.algorithms import MAML, Adaptation, Setting, adapt_to_tasks, episode_returns, policy_objective
from surefoot.algorithms.base import LearnerState, LossName
from surefoot.experiment.config import Config, Evaluation
from surefoot.rules import AbstractRule, GradientStep
from surefoot.types import Key, Task


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found."""

    preset: str
    iteration: int
    options: Evaluation
    returns: np.ndarray
    """Undiscounted, the mean over a task's episodes: axes `[step task]`."""
    tasks: Any
    """The tasks, with a leading axis."""
    adaptation: Adaptation
    """Everything that was sampled."""

    def summary(self) -> dict[str, Any]:
        """What `surefoot evaluate --json` prints."""
        return {
            "preset": self.preset,
            "iteration": self.iteration,
            "seed": self.options.seed,
            "tasks": self.options.tasks,
            "episodes": self.options.episodes,
            "returns": [
                {"step": step, "mean": float(np.mean(row)), "ci95": confidence_interval(self._sample(step))}
                for step, row in enumerate(self.returns)
            ],
        }

    def _sample(self, step: int) -> np.ndarray:
        """What the interval is over: tasks, or the episodes of the only one."""
        if len(self.returns[step]) > 1:
            return self.returns[step]
        return np.asarray(episode_returns(self.adaptation.rollouts[step]))[0]


def confidence_interval(values: np.ndarray) -> list[float] | None:
    """The 95% interval of the mean, by Student's t; None of a single value, whose spread nobody knows."""
    n = len(values)
    if n < 2:
        return None
    half = stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def inner_rule(config: Config) -> AbstractRule:
    """The rule that a run's policy adapts by: its own inner rule, or a plain gradient step if it has none."""
    return config.algorithm.inner if isinstance(config.algorithm, MAML) else GradientStep()


def default_steps(config: Config) -> int:
    """A policy trained for a single task has nothing to adapt to unless it is asked."""
    return config.evaluation.steps if isinstance(config.algorithm, MAML) else 0


def evaluation_keys(seed: int) -> tuple[Key, Key]:
    """For the tasks of an evaluation, and for playing them: of another stream than training's, whatever the
    two seeds are."""
    task_key, play_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0x5EED))
    return task_key, play_key


def evaluate(
    config: Config,
    learner: LearnerState,
    iteration: int,
    options: Evaluation | None = None,
    inner: AbstractRule | None = None,
) -> EvaluationResult:
    """Adapts the policy to held-out tasks, each from the trained parameters, with fresh rollouts at every
    step.

    Every task and step is played for the same fixed number of episodes. Without `options`, those of the
    configuration hold, and a policy that was trained for a single task is judged as it is.
    """
    options = options or replace(config.evaluation, steps=default_steps(config))
    config.estimation.validate(options.episodes)
    task_key, play_key = evaluation_keys(options.seed)
    tasks = config.algorithm.evaluation_tasks(config.env, learner, task_key, options.tasks)
    adaptation = adapt(
        config, learner, tasks, play_key, steps=options.steps, episodes=options.episodes, inner=inner
    )
    returns = np.stack([np.asarray(episode_returns(r)).mean(axis=-1) for r in adaptation.rollouts])
    return EvaluationResult(config.preset, iteration, options, returns, tasks, adaptation)


def adapt(
    config: Config,
    learner: LearnerState,
    tasks: Task,
    key: Key,
    *,
    steps: int,
    episodes: int | None = None,
    inner: AbstractRule | None = None,
) -> Adaptation:
    """Adapts a trained policy to tasks (with a leading task axis), as its configuration says or as it is
    told."""
    rule = inner or inner_rule(config)
    with closing(config.episode_setting(episodes or config.episodes)) as setting:
        live = eqx.filter_jit(_adapt) if setting.sampler.traceable else _adapt
        return live(setting, _inner_loss(config, rule), rule, steps, learner, tasks, key)


def _inner_loss(config: Config, rule: AbstractRule) -> LossName:
    """Where the data was drawn the gradients of both losses agree; some rules need more of a loss."""
    if rule.requires_surrogate:
        return "surrogate"
    return config.algorithm.inner_loss if isinstance(config.algorithm, MAML) else "reinforce"


def _adapt(
    setting: Setting,
    loss: LossName,
    inner: AbstractRule,
    steps: int,
    learner: LearnerState,
    tasks: Task,
    key: Key,
) -> Adaptation:
    # Phases beyond those of training know of the baseline what the last of them knew.
    last = len(learner.baselines) - 1
    baselines = tuple(learner.baselines[min(phase, last)] for phase in range(steps + 1))
    objective = policy_objective(loss)
    return adapt_to_tasks(
        setting,
        objective,
        inner,
        learner.policy,
        tasks,
        key,
        steps=steps,
        baselines=baselines,
        scales=learner.scales,
    )
