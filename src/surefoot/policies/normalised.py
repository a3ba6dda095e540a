"""A policy that sees the world in the scale it has been found to have."""

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.policies.base import AbstractPolicy, AbstractRecurrentPolicy, act, initial_memory
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.statistics import RunningStatistics, standardise


class NormalisedPolicy(AbstractRecurrentPolicy):
    """A policy behind running statistics of the observations, which no rule changes: rules improve
    `policy`."""

    policy: AbstractPolicy
    statistics: RunningStatistics
    limit: float = eqx.field(static=True)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> AbstractDistribution:
        return self.policy(self._seen(observations))

    def initial_memory(self) -> PyTree:
        return initial_memory(self.policy)

    def act(
        self, observations: Float[Array, "*batch obs"], memory: PyTree
    ) -> tuple[AbstractDistribution, PyTree]:
        return act(self.policy, self._seen(observations), memory)

    def unroll(
        self,
        observations: Float[Array, "*axes time obs"],
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> AbstractDistribution:
        if isinstance(self.policy, AbstractRecurrentPolicy):
            return self.policy.unroll(self._seen(observations), starts, memory)
        return self(observations)

    def _seen(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch obs"]:
        return standardise(observations, self.statistics, self.limit)
