"""What an iteration says of itself, beside what its rule says."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from surefoot.algorithms.estimation import episode_returns
from surefoot.policies.base import AbstractPolicy
from surefoot.theory.divergences import mean_entropy
from surefoot.types import Rollout


def describe(policy: AbstractPolicy, rollouts: tuple[Rollout, ...]) -> dict[str, Float[Array, ""]]:
    """`rollouts` holds those before any adaptation first, those after all of it last (one and the same for a
    single task)."""
    before, after = rollouts[0], rollouts[-1]
    distribution = policy(before.observations)
    metrics = {
        "return": jnp.mean(episode_returns(after)),
        "episode_length": jnp.mean(jnp.sum(after.valid, axis=-1).astype(after.rewards.dtype)),
        "entropy": mean_entropy(distribution, before.valid),
    }
    if len(rollouts) > 1:
        metrics |= {
            "return_before": jnp.mean(episode_returns(before)),
            "return_after": jnp.mean(episode_returns(after)),
        }
    return metrics
