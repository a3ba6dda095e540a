"""A wrapper that normalises a policy's observations."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.policies.base import AbstractPolicy, act, initial_memory, with_role
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.theory.statistics import RunningStatistics, standardise


class NormalisedPolicy(AbstractPolicy):
    """A policy of observations that are standardised with running statistics. Everything else is that of the
    policy it wraps. Algorithms give rules `policy` to improve, and update the statistics themselves."""

    policy: Any
    """An `AbstractPolicy`, of any kind."""
    statistics: RunningStatistics
    limit: float = eqx.field(static=True)

    def __call__(self, observations: Float[Array, "*batch obs"]) -> AbstractDistribution:
        return self.policy(self._standardised(observations))

    @property
    def is_recurrent(self) -> bool:
        return self.policy.is_recurrent

    @property
    def predicts_values(self) -> bool:
        return self.policy.predicts_values

    def roles(self) -> PyTree:
        """The roles of the wrapped policy. The statistics are `shared`: no inner step changes them."""
        return eqx.tree_at(lambda p: p.policy, with_role(self, "shared"), self.policy.roles())

    @property
    def auxiliary(self) -> AuxiliaryLoss | None:
        return self.policy.auxiliary

    def values(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch"]:
        return self.policy.values(self._standardised(observations))

    def outputs(self, observations: Float[Array, "*batch obs"], actions: Array) -> Prediction:
        return self.policy.outputs(self._standardised(observations), actions)

    def initial_memory(self) -> PyTree:
        return initial_memory(self.policy)

    def act(
        self, observations: Float[Array, "*batch obs"], memory: PyTree
    ) -> tuple[AbstractDistribution, PyTree]:
        return act(self.policy, self._standardised(observations), memory)

    def unroll(
        self,
        observations: Float[Array, "*axes time obs"],
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> AbstractDistribution:
        standardised = self._standardised(observations)
        if not self.is_recurrent:
            return self.policy(standardised)
        return self.policy.unroll(standardised, starts, memory)

    def _standardised(self, observations: Float[Array, "*batch obs"]) -> Float[Array, "*batch obs"]:
        return standardise(observations, self.statistics, self.limit)
