"""Categorical policies, for discrete actions."""

from dataclasses import dataclass

import equinox as eqx

from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError
from surefoot.policies.base import AbstractPolicy, PolicyOptions
from surefoot.theory.distributions import AbstractDistribution, Categorical, MultiCategorical
from surefoot.types import ActionSpace, Continuous, Key, MultiDiscrete, Observations, ObservationSpace


class CategoricalMLPPolicy(AbstractPolicy):
    """π(a|s) = softmax(f(s)), with the logits f from a network."""

    network: MLP
    counts: tuple[int, ...] | None = eqx.field(static=True, default=None)
    """The number of values of each integer, where an action is several; otherwise None."""

    def __call__(self, observations: Observations) -> AbstractDistribution:
        logits = self.network(observations)
        return Categorical(logits) if self.counts is None else MultiCategorical(logits, self.counts)


@dataclass(frozen=True)
class CategoricalMLP(MLPOptions, PolicyOptions):
    """Policy for discrete actions: π(a|s) = softmax(f(s)), with an MLP f. Several integers at once are
    independent, given the observation."""

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> CategoricalMLPPolicy:
        if isinstance(action_space, Continuous):
            raise UserError(
                "A categorical-mlp policy samples discrete actions, and this environment's are continuous; "
                "use --policy gaussian-mlp."
            )
        counts = action_space.counts if isinstance(action_space, MultiDiscrete) else None
        return CategoricalMLPPolicy(self.network(key, observation_space, action_space.features), counts)
