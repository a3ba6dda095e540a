"""The base of policies that wrap another policy."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from surefoot.policies.base import AbstractPolicy, act, initial_memory, with_role
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import Observations


class AbstractPolicyWrapper(AbstractPolicy):
    """A policy that changes the observations or the distributions of another one, and is that policy in every
    other respect: recurrent or not, with values or without."""

    policy: eqx.AbstractVar[Any]
    """The `AbstractPolicy` that it wraps, of any kind."""

    def observed(self, observations: Observations) -> Observations:
        """The observations that the wrapped policy is given; by default as they are."""
        return observations

    def distributed(self, distribution: AbstractDistribution) -> AbstractDistribution:
        """The distribution over actions, from the wrapped policy's; by default that."""
        return distribution

    def __call__(self, observations: Observations) -> AbstractDistribution:
        return self.distributed(self.policy(self.observed(observations)))

    @property
    def is_recurrent(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (it is only read)
        return self.policy.is_recurrent

    @property
    def predicts_values(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.policy.predicts_values

    def roles(self) -> PyTree:
        """Those of the wrapped policy; other parameters are `shared`, since no inner step changes them."""
        return eqx.tree_at(lambda p: p.policy, with_role(self, "shared"), self.policy.roles())

    @property
    def auxiliary(self) -> AuxiliaryLoss | None:
        return self.policy.auxiliary

    def values(self, observations: Observations) -> Float[Array, "*batch"]:
        return self.policy.values(self.observed(observations))

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        return self._distributed(self.policy.outputs(self.observed(observations), actions))

    def initial_memory(self) -> PyTree:
        return initial_memory(self.policy)

    def act(self, observations: Observations, memory: PyTree) -> tuple[AbstractDistribution, PyTree]:
        distribution, memory = act(self.policy, self.observed(observations), memory)
        return self.distributed(distribution), memory

    def unroll(
        self,
        observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> AbstractDistribution:
        seen = self.observed(observations)
        unrolled = self.policy.unroll(seen, starts, memory) if self.is_recurrent else self.policy(seen)
        return self.distributed(unrolled)

    def unroll_outputs(
        self, observations: Observations, actions: Array, starts: Bool[Array, "*axes time"], memory: PyTree
    ) -> Prediction:
        predicted = self.policy.unroll_outputs(self.observed(observations), actions, starts, memory)
        return self._distributed(predicted)

    def unroll_values(
        self,
        observations: Observations,
        next_observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: PyTree,
    ) -> tuple[Float[Array, "*axes time"], Float[Array, "*axes time"]]:
        now, following = map(self.observed, (observations, next_observations))
        return self.policy.unroll_values(now, following, starts, memory)

    def _distributed(self, predicted: Prediction) -> Prediction:
        return eqx.tree_at(lambda p: p.distribution, predicted, self.distributed(predicted.distribution))
