"""One batch of a single task: sampled, judged, and everything but the policy moved on."""

from dataclasses import replace

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from surefoot.algorithms.base import LearnerState, Setting
from surefoot.algorithms.estimation import Values
from surefoot.algorithms.reporting import Progress
from surefoot.policies import AbstractActorCritic, AbstractPolicy, AbstractRecurrentPolicy
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.objectives import PolicyObjective, reinforce
from surefoot.types import Batch, Key


class Gathered(eqx.Module):
    """What an iteration has before its rule takes a step."""

    batch: Batch
    """Axes `[episode time ...]`, in the scale that the policy sees."""
    state: LearnerState
    """That of the next iteration, but for policy and rule."""
    metrics: dict[str, Array]

    def learned(self, policy: AbstractPolicy, rule: PyTree) -> LearnerState:
        """The state of the next iteration."""
        return replace(self.state, policy=policy, rule=rule)


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
        rule=rule,
        baselines=(setting.estimation.baseline.init(baseline_key, env.observation_size, env.horizon),),
        task=tasks,
        scales=scales,
        where=where,
        progress=Progress.start(len(first.valid)),
    )


def gather(setting: Setting, state: LearnerState, key: Key) -> Gathered:
    """Plays one batch with the policy of `state` and estimates its advantages."""
    estimation, normalisation = setting.estimation, setting.normalisation
    limit_ends = setting.sampler.env.time_limit_ends_return
    acting = normalisation.policy(state.policy, state.scales)
    where, sampled = setting.sampler.collect(acting, _only(state.task), state.where, key)
    seen = normalisation.rollout(sampled, state.scales)
    (baseline,) = state.baselines
    critic = _critic(state.policy)
    batch = estimation.batch(seen, baseline, limit_ends, critic)
    assert state.progress is not None
    progress = state.progress.after(sampled)
    if critic is None:
        baseline = estimation.refit(jax.tree.map(lambda x: x[None], seen), baseline, limit_ends)
    following = replace(
        state,
        baselines=(baseline,),
        scales=normalisation.update(state.scales, sampled, estimation.discount),
        where=where,
        progress=progress,
    )
    distribution = PolicyObjective(reinforce).predict(state.policy, batch)
    entropy = mean_entropy(distribution, batch.valid)
    return Gathered(batch, following, {**progress.describe(), "entropy": entropy})


def as_steps(policy: AbstractPolicy, batch: Batch) -> Batch:
    """The batch as steps `[step ...]` of no particular order, where the policy remembers nothing: a rule can
    then divide it anywhere. A recurrent policy's stays `[episode time ...]`."""
    if isinstance(policy, AbstractRecurrentPolicy):
        return batch
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def _critic(policy: AbstractPolicy) -> Values | None:
    """A policy that judges takes the baseline's place."""
    if not isinstance(policy, AbstractActorCritic):
        return None

    def values(observations: Array, times: Array) -> Array:
        del times
        return policy.values(observations)

    return values


def _only(tasks: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tasks)
