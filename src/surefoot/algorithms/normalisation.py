"""Running normalisation of observations and rewards."""

from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from surefoot.options import Bound, Options
from surefoot.policies import NormalisedPolicy
from surefoot.theory.returns import reward_to_go
from surefoot.theory.statistics import (
    EPSILON,
    ObservationStatistics,
    RunningStatistics,
    empty_statistics,
    merge_observations,
    standardise_observations,
    statistics_of,
)
from surefoot.types import ObservationSpace, Rollout


class Scales(eqx.Module):
    """Running statistics of the data so far; None for what is not normalised."""

    observations: ObservationStatistics | None
    returns: RunningStatistics | None


@dataclass(frozen=True)
class Normalisation(Options):
    """Running normalisation of observations and rewards before anything learns from them.

    The statistics are those of all iterations before. Those of an iteration are merged at its end, exactly
    (mean and variance over all data so far), saved with the policy, and frozen at evaluation. Returns in the
    metrics are never scaled.
    """

    observations: bool = False
    """Whether each real number of the observation is given mean 0 and variance 1; bytes, as in images, are
    left alone."""
    rewards: bool = False
    """Whether rewards are divided by the standard deviation of the discounted rewards-to-go. Their mean
    stays: to move it would change what is optimal where episodes end early."""
    limit: Annotated[float, Bound(lambda x: x > 0, "above 0")] = 10.0
    """Bound to which normalised observations are clipped, on either side of 0."""

    def init(self, observation_space: ObservationSpace) -> Scales:
        """Before anything has been seen."""
        return Scales(
            empty_statistics(observation_space) if self.observations else None,
            RunningStatistics.empty(1) if self.rewards else None,
        )

    def policy(self, policy: Any, scales: Scales) -> Any:
        """The policy as it meets the environment."""
        if scales.observations is None:
            return policy
        return NormalisedPolicy(policy, scales.observations, self.limit)

    def rollout(self, rollout: Rollout, scales: Scales) -> Rollout:
        """The rollout as learning sees it."""
        if scales.observations is not None:
            seen = [
                standardise_observations(x, scales.observations, self.limit)
                for x in (rollout.observations, rollout.final_observations)
            ]
            rollout = eqx.tree_at(lambda r: (r.observations, r.final_observations), rollout, seen)
        if scales.returns is not None:
            variance = scales.returns.variance[0]  # zero before the first reward
            deviation = jnp.where(variance > 0, jnp.sqrt(variance + EPSILON), 1.0)
            rollout = eqx.tree_at(lambda r: r.rewards, rollout, rollout.rewards / deviation)
        return rollout

    def update(self, scales: Scales, rollout: Rollout, discount: float) -> Scales:
        """With what `rollout`, as it was sampled, shows; any leading axes."""
        observations, returns = scales.observations, scales.returns
        if observations is not None:
            observations = merge_observations(observations, rollout.observations, rollout.valid)
        if returns is not None:
            seen = _rewards_to_go(rollout, discount)
            returns = returns.merge(statistics_of(seen[..., None], rollout.valid))
        return Scales(observations, returns)


def _rewards_to_go(rollout: Rollout, discount: float) -> Array:
    """As far as the trajectories were seen: nothing is added for what follows them."""
    rewards = jnp.where(rollout.valid, rollout.rewards, 0.0)
    ends = rollout.terminated | rollout.truncated
    discounts = jnp.where(ends, 0.0, jnp.asarray(discount, rewards.dtype))
    return jnp.vectorize(reward_to_go, signature="(t),(t)->(t)")(rewards, discounts)
