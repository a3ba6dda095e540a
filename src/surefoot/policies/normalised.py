"""A policy that standardises its observations."""

from typing import Any

import equinox as eqx

from surefoot.policies.wrapper import AbstractPolicyWrapper
from surefoot.theory.statistics import ObservationStatistics, standardise_observations
from surefoot.types import Observations


class NormalisedPolicy(AbstractPolicyWrapper):
    """A policy whose observations are standardised by running statistics, where they are real numbers. Rules
    improve the policy that it wraps; the statistics are not parameters."""

    policy: Any
    statistics: ObservationStatistics
    limit: float = eqx.field(static=True)

    def observed(self, observations: Observations) -> Observations:
        return standardise_observations(observations, self.statistics, self.limit)
