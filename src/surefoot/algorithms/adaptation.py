"""Sampling and adapting, task by task: the inner loop as it is lived, for training and evaluation alike."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from surefoot.algorithms.base import Setting
from surefoot.policies.base import AbstractPolicy
from surefoot.rules.base import AbstractRule
from surefoot.theory.meta import inner_step
from surefoot.theory.objectives import AbstractObjective
from surefoot.types import Batch, Key, Rollout, Task


class Adaptation(eqx.Module):
    """What happened: phase k is played by the policies after k inner steps. All axes begin with `task`."""

    rollouts: tuple[Rollout, ...]
    batches: tuple[Batch, ...]
    """One for each rollout."""
    policies: AbstractPolicy
    """After the last step."""


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
) -> Adaptation:
    """From `policy`, adapt to each task by `steps` inner steps with fresh rollouts before each and after the
    last.

    `baselines` holds, for each of the `steps` + 1 phases, what the baseline learned before.
    """
    count = jax.tree.leaves(tasks)[0].shape[0]
    policies = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (count, *x.shape)) if eqx.is_array(x) else x, policy
    )
    inner_state = eqx.filter_vmap(inner.init)(policies)
    limit_ends = setting.sampler.env.time_limit_ends_return
    rollouts: list[Rollout] = []
    batches: list[Batch] = []

    def play(phase: int) -> None:
        rollouts.append(setting.sampler.sample(policies, tasks, jax.random.fold_in(key, phase)))
        estimate = jax.vmap(lambda rollout: setting.estimation.batch(rollout, baselines[phase], limit_ends))
        batches.append(estimate(rollouts[-1]))

    play(0)
    for step in range(steps):
        improve = eqx.filter_vmap(
            lambda policy, batch, state: inner_step(objective, inner, policy, batch, state)
        )
        policies, inner_state = improve(policies, batches[step], inner_state)
        play(step + 1)
    return Adaptation(tuple(rollouts), tuple(batches), policies)
