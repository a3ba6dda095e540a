"""A policy that standardises its observations."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from surefoot.policies.wrapper import AbstractPolicyWrapper
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.statistics import RunningStatistics, standardise


class NormalisedPolicy(AbstractPolicyWrapper):
    """A policy whose observations are standardised by running statistics. Rules improve the policy that it
    wraps; the statistics are not parameters."""

    policy: Any
    statistics: RunningStatistics
    limit: float = eqx.field(static=True)

    def observed(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch obs"]:
        return standardise(observations, self.statistics, self.limit)

    def distributed(self, distribution: AbstractDistribution) -> AbstractDistribution:
        return distribution
