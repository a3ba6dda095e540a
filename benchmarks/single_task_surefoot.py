"""Training in surefoot: its iteration, the iteration's parts, many seeds at once, and a whole run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import equinox as eqx
import jax
from single_task_problem import Problem

from surefoot.algorithms import LearnerState, Normalisation, SingleTask
from surefoot.algorithms.base import policy_objective
from surefoot.algorithms.on_policy import as_steps
from surefoot.baselines import ValueNetwork
from surefoot.experiment import Config
from surefoot.experiment.learner import Learner, compiled_initial_state
from surefoot.experiment.many import initial_states, lower_many, seeds_of, train_seeds
from surefoot.experiment.presets import preset
from surefoot.experiment.training import train
from surefoot.rules import AbstractRule, PPOClip, TrustRegion
from surefoot.rules.base import Metrics
from surefoot.samplers import InProcess
from surefoot.samplers.host_runner import disable_async_dispatch

# As every command of surefoot does, before JAX computes.
disable_async_dispatch()


def configuration(problem: Problem, iterations: int = 1) -> Config:
    """The preset with the problem's settings."""
    base = preset(problem.preset)
    baseline = ValueNetwork(
        hidden=problem.hidden, lr=problem.lr, epochs=problem.epochs, minibatches=problem.minibatches
    )
    policy: Any = base.policy
    return replace(
        base,
        policy=replace(policy, hidden=problem.hidden),
        algorithm=SingleTask(rule=_rule(problem, iterations)),
        estimation=replace(
            base.estimation,
            baseline=baseline,
            discount=problem.discount,
            gae_lambda=problem.gae_lambda,
        ),
        normalisation=Normalisation(observations=problem.normalises, rewards=problem.normalises),
        sampler=InProcess(),
        streams=problem.streams,
        steps=problem.steps,
        iterations=iterations,
        checkpoint_every=iterations,
    )


def _rule(problem: Problem, iterations: int) -> AbstractRule:
    if problem.rule == "ppo":
        return PPOClip(
            lr=problem.lr,
            lr_end=0.0,
            decay_steps=iterations,
            max_gradient_norm=problem.max_gradient_norm,
            epochs=problem.epochs,
            minibatches=problem.minibatches,
            clip=problem.clip,
        )
    return TrustRegion(
        max_kl=problem.max_kl,
        cg_iterations=problem.cg_iterations,
        cg_tolerance=0.0,
        damping=problem.damping,
        backtrack_ratio=problem.backtrack_ratio,
        max_backtracks=problem.max_backtracks,
    )


class Side:
    """Iterations, one after the other."""

    def __init__(self, problem: Problem, iterations: int) -> None:
        self._problem, self._config = problem, configuration(problem, iterations)
        self._state = jax.block_until_ready(compiled_initial_state(self._config))
        self._metrics: Metrics = {}

    def compile(self) -> None:
        """An iteration in parts finds what there is to compile when it is first made."""
        self._iterate = Learner(self._config).compile(self._state)
        jax.block_until_ready(self._iterate(self._state))

    def train(self, iterations: int) -> None:
        for _ in range(iterations):
            self._state, self._metrics = self._iterate(self._state)
        jax.block_until_ready(self._state)

    def attempts(self) -> int:
        """Of the last line search; 0 without one."""
        return int(self._metrics.get("line_search_attempts", 0))

    def compile_parts(self) -> list[str]:
        """Compiles each part of an iteration by itself, with the data that the parts before it give."""
        self._parts: dict[str, Callable[[], Any]] = {}
        config, learner = self._config, self._state.learner
        setting = config.setting()
        sampler, estimator = setting.sampler, setting.estimator
        algorithm: Any = config.algorithm
        (baseline,) = learner.baselines

        def sample(learner: LearnerState, key: Any) -> Any:
            return algorithm.sample(setting, learner, key)[1]

        rollout = self._part("sampling", sample, learner, jax.random.key(0), compiled=sampler.traceable)
        prepared = eqx.filter_jit(estimator.prepare)(rollout, learner.scales)
        batch = self._part("advantages", estimator.batch, prepared, baseline)
        rows = jax.tree.map(lambda x: x[None], prepared)
        self._part("value function", estimator.refit, rows, baseline)
        objective = policy_objective(algorithm.loss, algorithm.entropy_bonus)
        steps = as_steps(learner.policy, batch)

        def improve(learner: LearnerState, batch: Any) -> Any:
            return algorithm.rule.step(objective, learner.policy, batch, learner.own.rule)

        self._part("policy", improve, learner, steps)
        return list(self._parts)

    def part(self, name: str, times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(self._parts[name]())

    def _part(self, name: str, f: Callable[..., Any], *arguments: Any, compiled: bool = True) -> Any:
        compilable: Any = eqx.filter_jit(f)
        call = compilable.lower(*arguments).compile() if compiled else f
        self._parts[name] = lambda: call(*arguments)
        return self._parts[name]()


class Seeds:
    """Iterations of many seeds in one program."""

    def __init__(self, problem: Problem, seeds: int) -> None:
        config = configuration(problem)
        self._states = initial_states(list(seeds_of(config, seeds).values()), {})
        self._iterate = lower_many(Learner(config), self._states, {})()

    def train(self, iterations: int) -> None:
        for _ in range(iterations):
            self._states, _ = self._iterate(self._states)
        jax.block_until_ready(self._states)


class Scored:
    """A run whose policy is rated when it is trained."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._seed = problem, seed
        self._learner: Learner | None = None

    def train(self, iterations: int) -> None:
        """All of its training."""
        self._learner = Learner(replace(configuration(self._problem, iterations), seed=self._seed))
        self._learner.train(progress=False)

    def score(self, episodes: int, deterministic: bool) -> float:
        """The mean return of whole episodes, by sampled actions or by the policy's mode."""
        assert self._learner is not None
        return float(self._learner.evaluate(episodes=episodes, deterministic=deterministic).returns.mean())


class WholeRun:
    """A run as `surefoot train` makes it, its files included, with compiled programs kept in `cache`; more
    than one seed, all in one program."""

    def __init__(self, problem: Problem, iterations: int, seeds: int, out: Path, cache: Path) -> None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        config = configuration(problem, iterations)
        self._runs = [train(config, out).run] if seeds == 1 else train_seeds(config, seeds, out).runs

    def last_return(self) -> float:
        """Mean over the episodes that ended in the last batch in which any did; of all seeds."""
        progress: list[Any] = [run.state.learner.own.progress for run in self._runs]
        return fmean(float(of.last_return) for of in progress)
