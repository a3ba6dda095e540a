"""Small random policies and batches, and what baselines learn from."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from surefoot.baselines import Samples
from surefoot.policies import AbstractPolicy, CategoricalMLP, GaussianMLP
from surefoot.types import Batch, Continuous, Discrete, Key, MetaBatch

OBSERVATION = 2


def gaussian_policy(
    seed: int = 0, *, actions: int = 2, hidden: tuple[int, ...] = (3,), **options: Any
) -> Any:
    built = GaussianMLP(hidden=hidden, **options)
    return built.build(jax.random.key(seed), OBSERVATION, Continuous(actions))


def categorical_policy(seed: int = 0, *, actions: int = 3, hidden: tuple[int, ...] = (3,)) -> Any:
    return CategoricalMLP(hidden=hidden).build(jax.random.key(seed), OBSERVATION, Discrete(actions))


def ragged(episodes: int, time: int) -> Array:
    """Valid steps of episodes that end earlier and earlier, down to a single step, then start anew."""
    lengths = time - jnp.arange(episodes) % time
    return jnp.arange(time) < lengths[:, None]


@eqx.filter_jit
def random_batch(policy: AbstractPolicy, key: Key, *, episodes: int = 3, time: int = 4) -> Batch:
    """Episodes of unequal length, drawn from `policy`; the padding's advantages are large."""
    observation_key, action_key, advantage_key = jax.random.split(key, 3)
    observations = jax.random.normal(observation_key, (episodes, time, OBSERVATION))
    distribution = policy(observations)
    actions = distribution.sample(action_key)
    valid = ragged(episodes, time)
    advantages = jnp.where(valid, jax.random.normal(advantage_key, valid.shape), 1e3)
    return Batch(observations, actions, distribution.log_prob(actions), advantages, valid)


@eqx.filter_jit
def as_streams(policy: AbstractPolicy, batch: Batch, starts: Array, memory: Array) -> Batch:
    """The batch as streams of a recurrent policy, in which episodes begin where `starts` is true."""
    log_probs = policy.unroll(batch.observations, starts, memory).log_prob(batch.actions)
    return replace(batch, starts=starts, memory=memory, log_probs=log_probs)


@eqx.filter_jit
def random_meta_batch(
    policy: AbstractPolicy, key: Key, *, tasks: int, steps: int = 1, episodes: int = 3, time: int = 4
) -> MetaBatch:
    """Every task's data is drawn from the one policy: formulas hold for any data."""

    def batches(phase: int) -> Batch:
        keys = jax.random.split(jax.random.fold_in(key, phase), tasks)
        return jax.vmap(lambda k: random_batch(policy, k, episodes=episodes, time=time))(keys)

    *support, query = [batches(phase) for phase in range(steps + 1)]
    return MetaBatch(tuple(support), query)


def samples_at(observations: Array, returns: Array, valid: Array) -> Samples:
    """Whole episodes for a baseline that learns from their returns; nothing else is known of them."""
    unknown = jnp.zeros_like(returns)
    return Samples(
        observations=observations,
        times=jnp.broadcast_to(jnp.arange(returns.shape[-1], dtype=returns.dtype), returns.shape),
        returns=returns,
        rewards=unknown,
        discounts=unknown,
        next_observations=jnp.zeros_like(observations),
        valid=valid,
    )
