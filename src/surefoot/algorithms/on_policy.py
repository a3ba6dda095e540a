"""One iteration of on-policy learning: sample a batch, estimate advantages, improve."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.algorithms.base import (
    AbstractAlgorithm,
    LearnerState,
    Setting,
    jit_from_host,
    own_keys,
    policy_objective,
)
from surefoot.algorithms.estimator import Critic, Estimator, PreparedRollout
from surefoot.algorithms.gradient_adapter import GradientAdapter
from surefoot.algorithms.reporting import Progress
from surefoot.envs import AbstractFamily
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule, GradientStep
from surefoot.rules.base import Metrics
from surefoot.samplers.base import initial_memories, is_traced
from surefoot.theory.advantages import explained_variance
from surefoot.theory.averages import valid_mean
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.objectives import PolicyObjective, reinforce
from surefoot.types import Batch, Key, Rollout, Task

Improve = Callable[[AbstractPolicy, Batch, PyTree], tuple[AbstractPolicy, PyTree, Metrics]]
"""From policy, batch and the rule's state to the next policy, the rule's next state, and metrics."""


class OnPolicyState(eqx.Module):
    """The state of an algorithm that learns batch by batch."""

    rule: Any
    """The rule's state."""
    task: Task
    """The task, with a leading axis of one; None where each batch has tasks of its own."""
    sampler: Any
    """The state that the sampler goes on from; None where every batch begins anew."""
    progress: Progress
    """Statistics of the episodes so far."""


class AbstractOneTaskAlgorithm(AbstractAlgorithm):
    """Learns one task of the family, drawn once with the run's seed."""

    adapts = False

    @property
    def adaptation_rule(self) -> AbstractRule:
        """Its policies do not adapt unless a user asks: then by plain gradient steps."""
        return GradientStep()

    def adapter(
        self, estimator: Estimator, state: LearnerState, rule: AbstractRule | None = None
    ) -> GradientAdapter:
        objective = policy_objective("reinforce")
        return GradientAdapter.of(estimator, state, self.adaptation_rule, objective, 0, rule)

    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        """The learner's own task, n times: there are no others."""
        del env, key
        return jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), state.own.task)

    def learned(self, state: LearnerState) -> Any:
        return state.policy, state.scales, state.baselines, state.own.rule


class AbstractOnPolicyAlgorithm(AbstractAlgorithm):
    """Learns batch by batch: an iteration samples a batch, estimates advantages and improves the policy."""

    @abstractmethod
    def sample(self, setting: Setting, state: LearnerState, key: Key) -> tuple[PyTree, Rollout]:
        """The sampler's next state, and this batch, axes `[episode time ...]`."""

    @abstractmethod
    def describe(self, env: AbstractFamily, sampled: Rollout) -> Metrics:
        """Metrics of a batch as it was sampled, beside return, length and number of steps."""

    @abstractmethod
    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        """From a batch `[episode time ...]` and the rule's state: the next policy, the rule's next state, and
        metrics."""

    def in_one_program(self, setting: Setting, state: LearnerState) -> bool:
        """On a CPU a compiled program carries out one loop after another: two programs side by side are done
        sooner, if the baseline has a loop of its own. One core gains nothing, and computes the same."""
        refits = critic_of(state.policy) is None and setting.estimator.estimation.baseline.is_iterative
        side_by_side = refits and jax.default_backend() == "cpu"
        return setting.sampler.traceable and not side_by_side

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        estimator, traced = setting.estimator, is_traced(self, setting, state, key)
        compiled = setting.sampler.traceable and not traced
        sample = partial(_compiled_sample, self) if compiled else self.sample
        sampler_state, sampled = sample(setting, state, key)
        # What learning does not read is no part of its program, for its form may change.
        state = replace(state, own=replace(state.own, sampler=None))
        prepared = prepare(estimator, state, sampled)
        described = self.describe(setting.sampler.env, sampled)
        learn = partial(_learn, estimator, self.improve, state, sampled, prepared)
        refit = partial(_refit, estimator, state, prepared)
        if traced:
            (following, metrics), baselines = learn(), refit()
        else:
            # Neither needs the other, and networks as small as most leave a core to spare.
            with ThreadPoolExecutor(1, "surefoot-baseline") as aside:
                refitting = aside.submit(refit)
                following, metrics = jax.block_until_ready(learn())
                baselines = refitting.result()
        own = replace(following.own, sampler=sampler_state)
        return replace(following, baselines=baselines, own=own), {**described, **metrics}


class AbstractBatchAlgorithm(AbstractOnPolicyAlgorithm, AbstractOneTaskAlgorithm):
    """Learns one task batch by batch."""

    def sample(self, setting: Setting, state: LearnerState, key: Key) -> tuple[PyTree, Rollout]:
        acting = setting.estimator.acting(state.policy, state.scales)
        return setting.sampler.collect(acting, _only(state.own.task), state.own.sampler, key)

    def describe(self, env: AbstractFamily, sampled: Rollout) -> Metrics:
        """The mean reward where no time limit ends an episode: it may have no return for ever."""
        return {} if env.horizon else {"mean_reward": valid_mean(sampled.rewards, sampled.valid)}


def initial_state(setting: Setting, policy: AbstractPolicy, rule: PyTree, key: Key) -> LearnerState:
    """The state before the first batch of one task, with the rule's first state; the task is drawn here,
    once."""
    env, sampler = setting.sampler.env, setting.sampler
    baseline_key, start_key = jax.random.split(jax.random.fold_in(key, 1))
    tasks = env.sample_tasks(key, 1)
    baseline, scales = setting.estimator.init(baseline_key, env)
    acting = setting.estimator.acting(policy, scales)
    sampler_state = sampler.start(acting, _only(tasks), start_key)
    _, first = eqx.filter_eval_shape(sampler.collect, acting, _only(tasks), sampler_state, key)
    own = OnPolicyState(
        own_keys(rule, jax.random.fold_in(key, 2)), tasks, sampler_state, Progress.start(len(first.valid))
    )
    return LearnerState(policy, scales, (baseline,), own)


@eqx.filter_jit
def _compiled_sample(
    algorithm: AbstractOnPolicyAlgorithm, setting: Setting, state: LearnerState, key: Key
) -> tuple[PyTree, Rollout]:
    return algorithm.sample(setting, state, key)


@jit_from_host
def prepare(estimator: Estimator, state: LearnerState, sampled: Rollout) -> PreparedRollout:
    """The batch as learning sees it."""
    return estimator.prepare(sampled, state.scales)


@jit_from_host
def _learn(
    estimator: Estimator,
    improve: Improve,
    state: LearnerState,
    sampled: Rollout,
    prepared: PreparedRollout,
) -> tuple[LearnerState, Metrics]:
    """Everything that follows sampling, but for the baseline."""
    (baseline,) = state.baselines
    batch = estimator.batch(prepared, baseline, critic_of(state.policy))
    assert batch.transitions is not None
    values, returns = batch.transitions.values, batch.transitions.returns
    distribution = PolicyObjective(reinforce).predict(state.policy, batch)
    policy, rule, metrics = improve(state.policy, batch, state.own.rule)
    progress = state.own.progress.after(sampled)
    scales = estimator.update(state.scales, sampled)
    own = replace(state.own, rule=rule, progress=progress)
    return replace(state, policy=policy, scales=scales, own=own), {
        **progress.describe(),
        "entropy": mean_entropy(distribution, batch.valid),
        "explained_variance": explained_variance(values, returns, batch.valid),
        **metrics,
    }


@jit_from_host
def _refit(estimator: Estimator, state: LearnerState, prepared: PreparedRollout) -> tuple[PyTree, ...]:
    """The baselines for the next batch."""
    if critic_of(state.policy) is not None:
        return state.baselines
    (baseline,) = state.baselines
    return (estimator.refit(jax.tree.map(lambda x: x[None], prepared), baseline),)


def as_steps(policy: AbstractPolicy, batch: Batch) -> Batch:
    """The batch as steps `[step ...]` in no particular order, unless the policy is recurrent: a rule can then
    divide it anywhere. A recurrent policy's stays `[episode time ...]`."""
    if policy.is_recurrent:
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def critic_of(policy: Any) -> Critic | None:
    """The value function of an actor-critic, which takes the baseline's place; None of another policy."""
    if not policy.predicts_values:
        return None

    def values(rollout: Rollout) -> tuple[Array, Array]:
        if not policy.is_recurrent:
            now, finals = map(policy.values, (rollout.observations, rollout.final_observations))
            return now, rollout.following(now, finals)
        memory = rollout.memory
        if memory is None:
            memory = initial_memories(policy, len(rollout.valid))
        starts = rollout.times == 0
        return policy.unroll_values(rollout.observations, rollout.next_observations, starts, memory)

    return values


def _only(tasks: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tasks)
