"""One iteration of a single task: a batch is sampled, judged and learned from, and everything moves on."""

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

from surefoot.algorithms.base import AbstractAlgorithm, LearnerState, Setting, own_keys
from surefoot.algorithms.estimation import Estimation, Values
from surefoot.algorithms.normalisation import Normalisation
from surefoot.algorithms.reporting import Progress
from surefoot.envs import AbstractFamily
from surefoot.policies import AbstractPolicy
from surefoot.rules.base import Metrics
from surefoot.samplers.base import is_traced
from surefoot.theory.advantages import explained_variance
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.objectives import PolicyObjective, reinforce
from surefoot.types import Batch, Key, Rollout, Task

Improve = Callable[[AbstractPolicy, Batch, PyTree], tuple[AbstractPolicy, PyTree, Metrics]]
"""From policy, batch and the rule's state to the next policy, the rule's next state, and metrics."""


class AbstractOneTaskAlgorithm(AbstractAlgorithm):
    """Learns one task of the family, drawn once with the run's seed."""

    def evaluation_tasks(self, env: AbstractFamily, state: LearnerState, key: Key, n: int) -> Task:
        """The learner's own, n times: a single task has no others, only other episodes."""
        del env, key
        return jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), state.task)


class AbstractBatchAlgorithm(AbstractOneTaskAlgorithm):
    """Learns it batch by batch: an iteration plays one with the policy, judges it and improves the policy."""

    @abstractmethod
    def improve(
        self, policy: AbstractPolicy, batch: Batch, rule: PyTree
    ) -> tuple[AbstractPolicy, PyTree, Metrics]:
        """What it makes of a batch `[episode time ...]`: the next policy, the rule's next state, and
        metrics."""

    def in_one_program(self, setting: Setting, state: LearnerState) -> bool:
        """On a CPU a compiled program carries out one loop after another: two programs side by side are done
        sooner, if the baseline has a loop of its own. One core gains nothing, and computes the same."""
        refits = critic_of(state.policy) is None and setting.estimation.baseline.is_iterative
        side_by_side = refits and jax.default_backend() == "cpu"
        return setting.sampler.traceable and not side_by_side

    def iterate(self, setting: Setting, state: LearnerState, key: Key) -> tuple[LearnerState, Metrics]:
        compiled = setting.sampler.traceable and not is_traced(state, key)
        where, sampled = (_play_batch if compiled else play_batch)(setting, state, key)
        limit_ends = setting.sampler.env.time_limit_ends_return
        judging = setting.estimation, setting.normalisation, limit_ends
        learn = partial(_learn, *judging, self.improve, state, where, sampled)
        refit = partial(_refit, *judging, state, sampled)
        if is_traced(sampled):
            (following, metrics), baselines = learn(), refit()
        else:
            # Neither needs the other, and networks as small as most leave a core to spare.
            with ThreadPoolExecutor(1, "surefoot-baseline") as aside:
                refitting = aside.submit(refit)
                following, metrics = jax.block_until_ready(learn())
                baselines = refitting.result()
        return replace(following, baselines=baselines), metrics


def begin(setting: Setting, policy: AbstractPolicy, rule: PyTree, key: Key) -> LearnerState:
    """The state before the first batch: the task is drawn here, once."""
    env = setting.sampler.env
    baseline_key, start_key = jax.random.split(jax.random.fold_in(key, 1))
    tasks = env.sample_tasks(key, 1)
    scales = setting.normalisation.init(env.observation_size)
    acting = setting.normalisation.policy(policy, scales)
    where = setting.sampler.start(acting, _only(tasks), start_key)
    _, first = eqx.filter_eval_shape(setting.sampler.collect, acting, _only(tasks), where, key)
    return LearnerState(
        policy=policy,
        rule=own_keys(rule, jax.random.fold_in(key, 2)),
        baselines=(setting.estimation.baseline.init(baseline_key, env.observation_size, env.horizon),),
        task=tasks,
        scales=scales,
        where=where,
        progress=Progress.start(len(first.valid)),
    )


class PreparedBatch(eqx.Module):
    """What an iteration has before its rule takes a step."""

    batch: Batch
    """Axes `[episode time ...]`, in the scale that the policy sees."""
    state: LearnerState
    """That of the next iteration, but for policy, rule and baselines."""
    metrics: Metrics


def play_batch(setting: Setting, state: LearnerState, key: Key) -> tuple[PyTree, Rollout]:
    """Where the next batch begins, and this one, axes `[episode time ...]`."""
    acting = setting.normalisation.policy(state.policy, state.scales)
    return setting.sampler.collect(acting, _only(state.task), state.where, key)


_play_batch = eqx.filter_jit(play_batch)


def judge(
    estimation: Estimation,
    normalisation: Normalisation,
    limit_ends: bool,
    state: LearnerState,
    where: PyTree,
    sampled: Rollout,
) -> PreparedBatch:
    """The advantages of what was played, and everything but policy and baseline moved on."""
    seen = normalisation.rollout(sampled, state.scales)
    (baseline,) = state.baselines
    batch = estimation.batch(seen, baseline, limit_ends, critic_of(state.policy))
    assert state.progress is not None
    assert batch.transitions is not None
    progress = state.progress.after(sampled)
    following = replace(
        state,
        scales=normalisation.update(state.scales, sampled, estimation.discount),
        where=where,
        progress=progress,
    )
    distribution = PolicyObjective(reinforce).predict(state.policy, batch)
    metrics = {
        **progress.describe(),
        "entropy": mean_entropy(distribution, batch.valid),
        "explained_variance": explained_variance(
            batch.transitions.values, batch.transitions.returns, batch.valid
        ),
    }
    return PreparedBatch(batch, following, metrics)


@eqx.filter_jit
def _learn(
    estimation: Estimation,
    normalisation: Normalisation,
    limit_ends: bool,
    improve: Improve,
    state: LearnerState,
    where: PyTree,
    sampled: Rollout,
) -> tuple[LearnerState, Metrics]:
    """What follows sampling, but for the baseline."""
    prepared = judge(estimation, normalisation, limit_ends, state, where, sampled)
    policy, rule, metrics = improve(state.policy, prepared.batch, state.rule)
    return replace(prepared.state, policy=policy, rule=rule), {**prepared.metrics, **metrics}


@eqx.filter_jit
def _refit(
    estimation: Estimation,
    normalisation: Normalisation,
    limit_ends: bool,
    state: LearnerState,
    sampled: Rollout,
) -> tuple[PyTree, ...]:
    """The baselines that judge the next batch."""
    if critic_of(state.policy) is not None:
        return state.baselines
    seen = normalisation.rollout(sampled, state.scales)
    (baseline,) = state.baselines
    return (estimation.refit(jax.tree.map(lambda x: x[None], seen), baseline, limit_ends),)


def as_steps(policy: AbstractPolicy, batch: Batch) -> Batch:
    """The batch as steps `[step ...]` of no particular order, where the policy remembers nothing: a rule can
    then divide it anywhere. A recurrent policy's stays `[episode time ...]`."""
    if policy.is_recurrent:
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def critic_of(policy: Any) -> Values | None:
    """A policy that judges takes the baseline's place."""
    if not policy.predicts_values:
        return None

    def values(observations: Array, times: Array) -> Array:
        del times
        return policy.values(observations)

    return values


def _only(tasks: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tasks)
