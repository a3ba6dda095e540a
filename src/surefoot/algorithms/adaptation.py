"""Sampling and adapting, task by task: the inner loop as it is lived, for training and evaluation alike."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from surefoot.algorithms.base import Setting
from surefoot.algorithms.estimation import Estimation
from surefoot.algorithms.normalisation import Normalisation, Scales
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules.base import AbstractRule
from surefoot.samplers import AbstractSampler
from surefoot.samplers.base import is_traced
from surefoot.theory.meta import inner_step
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch, Key, Rollout, Task


class Adaptation(eqx.Module):
    """What happened: phase k is played by the policies after k inner steps. All axes begin with `task`."""

    rollouts: tuple[Rollout, ...]
    """As they were sampled."""
    batches: tuple[Batch, ...]
    """One for each rollout, in the scale that the policies see."""
    policies: AbstractPolicy
    """After the last step, without the normalisation of what they see."""


class Inner(eqx.Module):
    """How one task is adapted to: the functions here are written for one, and vmapped outside."""

    objective: AbstractObjective
    scales: Scales
    baselines: tuple[PyTree, ...]
    """For each phase, what the baseline learned before."""
    rule: AbstractRule = eqx.field(static=True)
    estimation: Estimation = eqx.field(static=True)
    normalisation: Normalisation = eqx.field(static=True)
    limit_ends: bool = eqx.field(static=True)

    def begin(self, policy: AbstractPolicy) -> tuple[AbstractPolicy, PyTree]:
        """The policy and the rule's state before any step."""
        return policy, self.rule.init(policy)

    def acting(self, policy: AbstractPolicy) -> AbstractPolicy:
        """The policy as it meets the environment."""
        return self.normalisation.policy(policy, self.scales)

    def batch(self, rollout: Rollout, phase: int) -> Batch:
        """What `rollout`, of that phase, teaches."""
        seen = self.normalisation.rollout(rollout, self.scales)
        return replace(self.estimation.batch(seen, self.baselines[phase], self.limit_ends), transitions=None)

    def improve(self, learner: tuple[AbstractPolicy, PyTree], batch: Batch) -> tuple[AbstractPolicy, PyTree]:
        """One inner step."""
        policy, state = learner
        return inner_step(self.objective, self.rule, policy, batch, state)


def adapt_to_tasks(
    setting: Setting,
    objective: AbstractObjective,
    inner: AbstractRule,
    policy: AbstractPolicy,
    tasks: Task,
    key: Key,
    *,
    steps: int,
    baselines: tuple[PyTree, ...],
    scales: Scales,
) -> Adaptation:
    """From `policy`, adapt to each task by `steps` inner steps with fresh rollouts before each and after the
    last.

    `baselines` holds, for each of the `steps` + 1 phases, what the baseline learned before. With an
    asynchronous sampler no task waits for another. Raises `UserError` if the sampler does not play whole
    episodes.
    """
    sampler = setting.sampler
    if not isinstance(sampler, AbstractSampler):
        raise UserError("Adaptation is learned from whole episodes; set --streams 0.")
    if steps and policy.predicts_values:
        raise UserError(
            "Adaptation takes its advantages from a baseline and would not train an actor-critic's values; "
            "use another policy, such as --policy categorical-mlp or --policy gaussian-mlp."
        )
    limit_ends = sampler.env.time_limit_ends_return
    one = Inner(objective, scales, baselines, inner, setting.estimation, setting.normalisation, limit_ends)
    live = _as_they_come if sampler.asynchronous and not is_traced(policy, tasks, key) else _in_step
    return live(sampler, one, policy, tasks, key, steps)


def _in_step(
    sampler: AbstractSampler, one: Inner, policy: AbstractPolicy, tasks: Task, key: Key, steps: int
) -> Adaptation:
    """All tasks at once, phase by phase."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    rollouts: list[Rollout] = []
    batches: list[Batch] = []
    learners = _begin_all(one, policy, count)
    for phase in range(steps + 1):
        rollouts.append(sampler.sample(_acting_all(one, learners), tasks, jax.random.fold_in(key, phase)))
        batches.append(_batch_all(one, rollouts[-1], phase))
        if phase < steps:
            learners = _improve_all(one, learners, batches[-1])
    return Adaptation(tuple(rollouts), tuple(batches), learners[0])


@eqx.filter_jit
def _begin_all(one: Inner, policy: AbstractPolicy, count: int) -> tuple[AbstractPolicy, PyTree]:
    policies = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (count, *x.shape)) if eqx.is_array(x) else x, policy
    )
    return eqx.filter_vmap(one.begin)(policies)


@eqx.filter_jit
def _acting_all(one: Inner, learners: tuple[AbstractPolicy, PyTree]) -> AbstractPolicy:
    return eqx.filter_vmap(one.acting)(learners[0])


@eqx.filter_jit
def _batch_all(one: Inner, rollouts: Rollout, phase: int) -> Batch:
    return jax.vmap(lambda rollout: one.batch(rollout, phase))(rollouts)


@eqx.filter_jit
def _improve_all(
    one: Inner, learners: tuple[AbstractPolicy, PyTree], batches: Batch
) -> tuple[AbstractPolicy, PyTree]:
    return eqx.filter_vmap(one.improve)(learners, batches)


def _as_they_come(
    sampler: AbstractSampler, one: Inner, policy: AbstractPolicy, tasks: Task, key: Key, steps: int
) -> Adaptation:
    """Each task as soon as its own rollouts are in, while the others are still being played."""
    count = jax.tree.leaves(tasks)[0].shape[0]
    learners = [one.begin(policy)] * count
    rollouts, batches = ([[None] * count for _ in range(steps + 1)] for _ in range(2))
    pending: dict[Future[Rollout], tuple[int, int]] = {}

    def submit(i: int, phase: int) -> None:
        task = jax.tree.map(lambda x: x[i], tasks)
        task_key = jax.random.fold_in(jax.random.fold_in(key, phase), i)
        pending[sampler.submit(one.acting(learners[i][0]), task, task_key)] = i, phase

    try:
        for i in range(count):
            submit(i, 0)
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                i, phase = pending.pop(future)
                rollouts[phase][i] = future.result()
                batches[phase][i] = _batch_one(one, rollouts[phase][i], phase)
                if phase < steps:
                    learners[i] = _improve_one(one, learners[i], batches[phase][i])
                    submit(i, phase + 1)
    finally:
        for future in pending:
            future.cancel()
    policies = _stack([policy for policy, _ in learners])
    return Adaptation(tuple(map(_stack, rollouts)), tuple(map(_stack, batches)), policies)


@eqx.filter_jit
def _batch_one(one: Inner, rollout: Rollout, phase: int) -> Batch:
    return one.batch(rollout, phase)


@eqx.filter_jit
def _improve_one(
    one: Inner, learner: tuple[AbstractPolicy, PyTree], batch: Batch
) -> tuple[AbstractPolicy, PyTree]:
    return one.improve(learner, batch)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    """With a leading axis of tasks."""
    return jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *trees)
