"""Sampling and adapting, task by task: the inner loop as it is lived, for training and evaluation alike."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from surefoot.algorithms.base import Setting
from surefoot.algorithms.normalisation import Scales
from surefoot.options import UserError
from surefoot.policies import AbstractActorCritic, AbstractPolicy
from surefoot.rules.base import AbstractRule
from surefoot.samplers import AbstractSampler
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

    `baselines` holds, for each of the `steps` + 1 phases, what the baseline learned before. Raises
    `UserError` if the sampler does not play whole episodes.
    """
    sampler, normalisation = setting.sampler, setting.normalisation
    if not isinstance(sampler, AbstractSampler):
        raise UserError("Adaptation is learned from whole episodes; set --streams 0.")
    if steps and isinstance(policy, AbstractActorCritic):
        raise UserError(
            "Adaptation takes its advantages from a baseline and would not train an actor-critic's values; "
            "use another policy, such as --policy categorical-mlp or --policy gaussian-mlp."
        )
    count = jax.tree.leaves(tasks)[0].shape[0]
    policies = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (count, *x.shape)) if eqx.is_array(x) else x, policy
    )
    inner_state = eqx.filter_vmap(inner.init)(policies)
    limit_ends = sampler.env.time_limit_ends_return
    rollouts: list[Rollout] = []
    batches: list[Batch] = []

    def play(phase: int) -> None:
        acting = eqx.filter_vmap(lambda policy: normalisation.policy(policy, scales))(policies)
        rollouts.append(sampler.sample(acting, tasks, jax.random.fold_in(key, phase)))

        def estimate(rollout: Rollout) -> Batch:
            seen = normalisation.rollout(rollout, scales)
            batch = setting.estimation.batch(seen, baselines[phase], limit_ends)
            return replace(batch, transitions=None)

        batches.append(jax.vmap(estimate)(rollouts[-1]))

    play(0)
    for step in range(steps):
        improve = eqx.filter_vmap(
            lambda policy, batch, state: inner_step(objective, inner, policy, batch, state)
        )
        policies, inner_state = improve(policies, batches[step], inner_state)
        play(step + 1)
    return Adaptation(tuple(rollouts), tuple(batches), policies)
